-- The highest epoch of a target of any replication that was removed: a reservation key that shows it may still lie on a unit.
INSERT INTO meta (name, value) VALUES ('removed_epoch', 0);
