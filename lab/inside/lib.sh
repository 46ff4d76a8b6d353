# What payloads have at hand: . /lab/lib.sh

# What is being done now, with the seconds since boot.
step() { read -r now _ </proc/uptime; echo "[$now] $*"; }

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# until_true SECONDS WHAT COMMAND...: looks for a condition until a deadline; not too often, since a look at a server costs more in here
# than what it looks for.
until_true() {
    patience=$1 what=$2
    shift 2
    read -r from _ </proc/uptime
    until "$@"; do
        read -r now _ </proc/uptime
        [ $((${now%.*} - ${from%.*})) -lt "$patience" ] || fail "not within $patience s: $what"
        sleep 1
    done
}

# The device of a disk of `needs`, by its number: its serial is labN.
disk() {
    for device in /sys/block/vd*; do
        [ "$(cat $device/serial)" = "lab$1" ] && { echo /dev/${device##*/}; return; }
    done
    fail "there is no disk $1"
}

same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }
