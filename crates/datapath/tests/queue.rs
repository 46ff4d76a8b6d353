//! Requests in flight: whatever ends first, every byte is where it belongs, by io_uring and by blocking calls alike.

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use support::{MIB, Random, open, volume};
use tanist_datapath::BlockDevice;
use tanist_datapath::io::blocking::BlockingFile;
use tanist_datapath::io::queue::{Completion, Direction, IoQueue, OneAtATime, Request};
use tanist_datapath::io::uring::{Engine, engine};
use tanist_datapath::pages::{PAGE_LEN, PAGES, PageSet};
use tanist_datapath::pool::Pool;

/// Not a whole number of sectors: the tail cannot be moved directly.
const SIZE: u64 = 9 * MIB + 777;
const BLOCK: usize = 1 << 20;

type MakeQueue = fn(&BlockingFile) -> Box<dyn IoQueue + '_>;

const KINDS: [(&str, MakeQueue); 2] =
    [("as the kernel lets us", |file| file.queue()), ("one at a time", |file| Box::new(OneAtATime::new(file)))];

fn made(directory: &Path, bytes: &[u8]) -> BlockingFile {
    let path = directory.join("volume");
    std::fs::write(&path, bytes).unwrap();
    Arc::into_inner(open(&path)).unwrap()
}

fn blocks(random: &mut Random) -> Vec<(u64, usize)> {
    let mut all: Vec<(u64, usize)> =
        (0..SIZE).step_by(BLOCK).map(|offset| (offset, BLOCK.min((SIZE - offset) as usize))).collect();
    for at in (1..all.len()).rev() {
        all.swap(at, random.below(at as u64 + 1) as usize);
    }
    all
}

/// Does them all, as many at once as the queue takes.
fn all(queue: &mut dyn IoQueue, requests: Vec<Request>, mut over: impl FnMut(Completion)) {
    for request in requests {
        while queue.in_flight() >= queue.depth() {
            over(queue.next().unwrap().unwrap());
        }
        queue.begin(request).unwrap();
    }
    while let Some(completion) = queue.next().unwrap() {
        over(completion);
    }
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn what_is_written_in_any_order_is_read_in_any_order() {
    println!("this machine: {}", engine());
    for (seed, (kind, make)) in (1..).zip(KINDS) {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (mut random, bytes) = (Random(seed), volume(seed, SIZE));
        let file = made(directory.path(), &volume(seed + 10, SIZE));
        let (pool, mut queue) = (Pool::new(16, BLOCK), make(&file));
        let request = |direction, (offset, length): (u64, usize)| {
            let mut buffer = pool.take().unwrap();
            if direction == Direction::Write {
                buffer[..length].copy_from_slice(&bytes[offset as usize..][..length]);
            }
            Request::whole(direction, offset, length, buffer)
        };
        let writes = blocks(&mut random).into_iter().map(|block| request(Direction::Write, block)).collect();
        all(&mut *queue, writes, |over| over.result.unwrap());
        file.flush().unwrap();
        let mut seen = HashMap::new();
        let reads = blocks(&mut random).into_iter().map(|block| request(Direction::Read, block)).collect();
        all(&mut *queue, reads, |over| {
            over.result.as_ref().unwrap();
            let Completion { request, .. } = over;
            assert!(
                request.bytes() == &bytes[request.offset as usize..][..request.length],
                "{kind}, {}",
                request.offset
            );
            seen.insert(request.offset, request.length);
        });
        assert_eq!(seen.values().sum::<usize>() as u64, SIZE, "{kind}");
        drop(queue);
        assert!(std::fs::read(directory.path().join("volume")).unwrap() == bytes, "{kind}");
    }
}

/// Some pages of each block, neighbours and single ones, up to every other page; what lies between them is left alone on both sides.
#[test]
fn pages_are_moved_and_nothing_between_them() {
    for (seed, (kind, make)) in (1..).zip(KINDS) {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (mut random, old, new) = (Random(seed), volume(seed + 20, SIZE), volume(seed + 30, SIZE));
        let (file, mut expected) = (made(directory.path(), &old), old.clone());
        let (pool, mut queue) = (Pool::new(8, BLOCK), make(&file));
        let mut requests = Vec::new();
        for (number, (offset, length)) in blocks(&mut random).into_iter().enumerate() {
            let mut pages = PageSet::default();
            match number {
                0 => (0..PAGES).step_by(2).for_each(|page| pages.insert(page)),
                _ => (0..40).for_each(|_| pages.insert(random.below(PAGES as u64) as usize)),
            }
            requests.push((offset, length, pages));
            for run in pages.byte_runs(length) {
                let on_device = offset as usize + run.start..offset as usize + run.end;
                expected[on_device.clone()].copy_from_slice(&new[on_device]);
            }
        }
        let filled = |(offset, length, pages): (u64, usize, PageSet), direction| {
            let mut buffer = pool.take().unwrap();
            match direction {
                Direction::Write => buffer[..length].copy_from_slice(&new[offset as usize..][..length]),
                Direction::Read => buffer.fill(0xa5),
            }
            Request { direction, offset, length, pages: Some(pages), buffer }
        };
        for direction in [Direction::Write, Direction::Read] {
            for request in requests.chunks(4) {
                let begun = request.iter().map(|request| filled(*request, direction)).collect();
                all(&mut *queue, begun, |over| {
                    over.result.unwrap();
                    let Request { offset, length, pages, .. } = over.request;
                    let moved: usize = over.request.pieces().map(|piece| piece.len()).sum();
                    assert_eq!(moved, pages.unwrap().total_bytes(length), "{kind}");
                    for (at, byte) in over.request.bytes().iter().enumerate().filter(|_| direction == Direction::Read) {
                        let is_read = pages.unwrap().contains(at / PAGE_LEN);
                        let expected = if is_read { expected[offset as usize + at] } else { 0xa5 };
                        assert_eq!(*byte, expected, "{kind}, {offset} + {at}");
                    }
                });
            }
            file.flush().unwrap();
        }
        drop(queue);
        assert!(std::fs::read(directory.path().join("volume")).unwrap() == expected, "{kind}");
    }
}

#[test]
fn what_lies_past_the_end_is_an_error_of_that_request_alone() {
    for (kind, make) in KINDS {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let file = made(directory.path(), &volume(3, SIZE));
        let (pool, mut queue) = (Pool::new(4, BLOCK), make(&file));
        let request = |offset| Request::whole(Direction::Read, offset, BLOCK, pool.take().unwrap());
        let requests = vec![request(0), request(16 * MIB), request(MIB)];
        let mut failed = Vec::new();
        all(&mut *queue, requests, |over| {
            if over.result.is_err() {
                failed.push(over.request.offset)
            }
        });
        assert_eq!(failed, [16 * MIB], "{kind}");
    }
}

/// The memory of a request belongs to it until it is over: a pool that hands it out again before would be read into from behind.
#[test]
fn a_queue_that_is_dropped_waits_for_what_is_in_flight() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bytes = volume(4, SIZE);
    let file = made(directory.path(), &bytes);
    for _ in 0..50 {
        let (pool, mut queue) = (Pool::new(4, BLOCK), file.queue());
        for number in 0..queue.depth() as u64 {
            let buffer = pool.take().unwrap();
            queue.begin(Request::whole(Direction::Read, number * MIB, BLOCK, buffer)).unwrap();
        }
        drop(queue);
        let mut again: Vec<_> = (0..4).map(|_| pool.take().unwrap()).collect();
        again.iter_mut().for_each(|buffer| buffer.fill(7));
        assert!(again.iter().all(|buffer| buffer.iter().all(|byte| *byte == 7)));
    }
}

/// Tests mean little if they take the other way without a word.
#[test]
fn a_machine_that_allows_rings_uses_them() {
    let allowed = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|text| text.trim() == "0");
    if allowed && rustix::process::geteuid().is_root() {
        assert_eq!(*engine(), Engine::Uring);
    }
    println!("{}", engine());
}
