//! Everything that a server can send and must not: a clear error in time, whatever it is.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tanist_storage::{NbdExports, SourceView, StorageSystem};

use super::liar::{GREETING, Liar, Lie, Request, SIZE, chunk, data, export_info, option_reply};
use super::{address, described, system};

/// Of the client; a lie that is recognised takes no time at all.
const LIMIT: Duration = Duration::from_secs(2);

fn storage(liar: &Liar) -> NbdExports {
    system(tanist_storage::NbdServer { limit: LIMIT, connections: 1, ..described(&liar.socket()) })
}

fn in_time<T>(what: &str, attempt: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = attempt();
    assert!(begun.elapsed() < LIMIT * 3, "{what}: {:?}", begun.elapsed());
    result
}

fn opening(what: &str, lie: Lie, said: &str) {
    let liar = Liar::new(lie);
    let refused = in_time(what, || storage(&liar).open_source(&address("disk"), &SourceView::Live));
    let error = refused.expect_err(what).to_string();
    assert!(error.contains(said), "{what}: '{said}' in {error}");
}

fn reading(what: &str, lie: Lie, said: &str) {
    let liar = Liar::new(lie);
    let source = storage(&liar).open_source(&address("disk"), &SourceView::Live).expect(what);
    let error = in_time(what, || source.device.read_at(8192, &mut [0; 4096])).expect_err(what);
    assert!(error.to_string().contains(said), "{what}: '{said}' in {error}");
}

fn reply(of: u16, lie: impl Fn(Request) -> Vec<u8> + Send + Sync + 'static) -> Lie {
    Lie::Reply(of, Arc::new(lie))
}

#[test]
fn one_that_tells_no_lie_is_believed() {
    let liar = Liar::new(reply(99, |_| Vec::new()));
    let source = storage(&liar).open_source(&address("disk"), &SourceView::Live).unwrap();
    let mut read = [0; 4096];
    source.device.read_at(8192, &mut read).unwrap();
    assert_eq!((read, source.device.size_bytes()), ([7; 4096], SIZE));
    assert_eq!(source.device.extent_at(0).unwrap().end, SIZE);
}

#[test]
fn lies_of_the_handshake_are_recognised() {
    let greeting = |bytes: &[u8]| Lie::Greeting(bytes.to_vec());
    opening("another protocol", greeting(b"SSH-2.0-OpenSSH_9.2 and so on"), "does not speak NBD");
    opening("the old style", greeting(b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53\x00\x00"), "of the old style");
    opening("not fixed", greeting(b"NBDMAGICIHAVEOPT\x00\x02"), "of the old style");
    opening("silence", greeting(b""), "did not greet");
    opening("half a greeting", greeting(&GREETING[..12]), "did not greet");
    let option = Lie::Option;
    opening("another number", option(8, vec![1; 20]), "begins with another number");
    opening("another option", option(8, option_reply(3, 1, &[])), "answered as if it were 3");
    let mut long = option_reply(8, 1, &[]);
    long[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    opening("too long", option(8, long), "has 4294967295 bytes");
    opening("an ack with a payload", option(8, option_reply(8, 1, b"more")), "answer 1 of 4 bytes");
    opening("an unknown answer", option(8, option_reply(8, 77, &[])), "answer 77");
    opening(
        "a refusal",
        option(7, option_reply(7, 0x8000_0002, b"no\x1b[2Jt you")),
        "does not allow it: \"no[2Jt you\"",
    );
    opening("no such export", option(7, option_reply(7, 0x8000_0006, &[])), "does not exist");
    opening("nothing said of it", option(7, option_reply(7, 1, &[])), "opened and not described");
    opening("half described", option(7, option_reply(7, 3, &[0, 0, 1])), "has another length");
    let context = |id: u32, name: &[u8]| option_reply(10, 4, &[&id.to_be_bytes()[..], name].concat());
    let done = option_reply(10, 1, &[]);
    opening("a context unasked", option(10, [context(1, b"qemu:x"), done.clone()].concat()), "not asked for");
    let twice = [context(1, b"base:allocation"), context(2, b"base:allocation"), done.clone()].concat();
    opening("a context twice", option(10, twice), "not asked for, or the same twice");
    opening("no UTF-8", option(10, [context(1, b"base:\xff"), done].concat()), "not in UTF-8");
    opening("endless", Lie::EndlessOption(7, option_reply(7, 3, &export_info(SIZE))), "more than 64 answers");
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    let go = |infos: &[Vec<u8>]| {
        let told: Vec<Vec<u8>> = infos.iter().map(|info| option_reply(7, 3, info)).collect();
        Lie::Option(7, [told.concat(), option_reply(7, 1, &[])].concat())
    };
    let blocks = |sizes: [u32; 3]| [&3_u16.to_be_bytes()[..], &sizes.map(u32::to_be_bytes).concat()].concat();
    for sizes in [[0, 4096, 65536], [3, 4096, 65536], [131_072, 131_072, 262_144], [512, 511, 65536], [512, 4096, 1024]]
    {
        opening(&format!("{sizes:?}"), go(&[export_info(SIZE), blocks(sizes)]), "cannot be");
    }
    opening("no whole blocks", go(&[export_info(SIZE + 1), blocks([512, 4096, 65536])]), "the last cannot be reached");
    opening("larger than anything", go(&[export_info(u64::MAX - 511)]), "cannot be");
}

#[test]
fn lists_that_do_not_end_or_lie_are_refused() {
    let listing = |lie: Lie| {
        let liar = Liar::new(lie);
        let all = tanist_storage::NbdServer { limit: LIMIT, exports: Default::default(), ..described(&liar.socket()) };
        in_time("a list", || system(all).volumes()).unwrap_err().to_string()
    };
    let entry = option_reply(3, 2, &[&4_u32.to_be_bytes()[..], b"disk"].concat());
    assert!(listing(Lie::EndlessOption(3, entry)).contains("more than 10000 answers"));
    assert!(listing(Lie::Option(3, option_reply(3, 2, &[0, 0, 1, 0, b'x']))).contains("too short"));
}

#[test]
fn lies_about_a_read_are_recognised() {
    let all = 4096;
    let done = |r: Request, payload: &[u8]| chunk(r, 1, 1, payload);
    let cases: Vec<(&str, Lie, &str)> = vec![
        ("no reply at all", reply(0, |_| vec![9; 20]), "a reply begins with 0x9090909"),
        (
            "wrong cookie",
            reply(0, move |r| done(Request { cookie: r.cookie + 1, ..r }, &data(r.offset, all))),
            "which no request has",
        ),
        ("too long", reply(0, move |r| done(r, &data(r.offset, all + 1))), "were not asked for"),
        ("too short", reply(0, move |r| done(r, &data(r.offset, all - 1))), "leaves something out"),
        ("before it", reply(0, move |r| done(r, &data(r.offset - 1, all))), "were not asked for"),
        ("far away", reply(0, move |r| done(r, &data(u64::MAX - 5, 8))), "were not asked for"),
        ("no data", reply(0, move |r| done(r, &data(r.offset, 0))), "a piece of data is empty"),
        ("nothing", reply(0, |r| chunk(r, 1, 0, &[])), "leaves something out"),
        ("nothing and not the end", reply(0, |r| chunk(r, 0, 0, &[])), "a piece of kind 0"),
        ("a status for a read", reply(0, |r| chunk(r, 1, 5, &[0; 12])), "a piece of kind 5"),
        ("an unknown piece", reply(0, |r| chunk(r, 1, 77, &[])), "a piece of kind 77"),
        (
            "a hole of nothing",
            reply(0, |r| chunk(r, 1, 2, &[&r.offset.to_be_bytes()[..], &[0; 4]].concat())),
            "were not asked for",
        ),
        ("half a hole", reply(0, |r| chunk(r, 1, 2, &[0; 11])), "a hole is described in 11 bytes"),
        (
            "twice",
            reply(0, move |r| [chunk(r, 0, 1, &data(r.offset, all)), done(r, &data(r.offset + 10, 10))].concat()),
            "come twice",
        ),
        (
            "after the end",
            reply(0, move |r| [done(r, &data(r.offset, 9)), done(r, &data(r.offset, 9))].concat()),
            "leaves something out",
        ),
        ("an error of nothing", reply(0, |r| chunk(r, 1, 0x8001, &[0; 6])), "an error without a number"),
        ("an error cut short", reply(0, |r| chunk(r, 1, 0x8001, &[0, 0, 0, 5, 0, 9])), "too short"),
        (
            "an error elsewhere",
            reply(0, |r| chunk(r, 1, 0x8002, &[0, 0, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])),
            "where nothing was asked for",
        ),
        ("a long error", reply(0, |r| chunk(r, 1, 0x8001, &vec![1; 70_000])), "a piece of a reply has 70000 bytes"),
        (
            "a simple reply",
            reply(0, |r| [&0x6744_6698_u32.to_be_bytes()[..], &[0; 4], &r.cookie.to_be_bytes(), &[0; 4096]].concat()),
            "a simple reply",
        ),
        ("half a header", reply(0, |_| vec![0x66, 0x8e, 0x33]), "no answer"),
        ("half the data", reply(0, move |r| done(r, &data(r.offset, all))[..2000].to_vec()), "no answer"),
        ("silence", reply(0, |_| Vec::new()), "no answer"),
        (
            "errors without end",
            Lie::EndlessReply(0, Arc::new(|r| chunk(r, 0, 0x8001, &[0, 0, 0, 5, 0, 0]))),
            "does not end",
        ),
        ("an honest error", reply(0, |r| chunk(r, 1, 0x8001, b"\0\0\0\x05\0\x03bad")), "input/output error: \"bad\""),
    ];
    for (what, lie, said) in cases {
        reading(what, lie, said);
    }
}

/// Many small pieces in no order are slow and no lie.
#[test]
fn a_read_in_many_pieces_is_put_together() {
    let lie = reply(0, |r| {
        // A step that is odd visits each of the 2048 pairs once.
        let piece = |n: u64| chunk(r, u16::from(n == 2047), 1, &data(r.offset + n * 1327 % 2048 * 2, 2));
        (0..2048).map(piece).collect::<Vec<_>>().concat()
    });
    let liar = Liar::new(lie);
    let source = storage(&liar).open_source(&address("disk"), &SourceView::Live).unwrap();
    let mut read = [0; 4096];
    source.device.read_at(8192, &mut read).unwrap();
    assert_eq!(read, [7; 4096]);
}

#[test]
fn lies_about_holes_are_recognised() {
    let status = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("no stretch", status(&[1]), "a status of blocks in 4 bytes"),
        ("another context", status(&[2, 4096, 0]), "about context 2"),
        ("an empty stretch", status(&[1, 0, 0]), "of no bytes has a status"),
        ("half a stretch", status(&[1, 4096]), "a status of blocks in 8 bytes"),
        ("stretches and a half", [status(&[1, 4096, 0]), vec![0; 3]].concat(), "a status of blocks in 15 bytes"),
    ];
    for (what, payload, said) in cases {
        let liar = Liar::new(reply(7, move |r| chunk(r, 1, 5, &payload)));
        let source = storage(&liar).open_source(&address("disk"), &SourceView::Live).unwrap();
        let error = in_time(what, || source.device.extent_at(0)).expect_err(what);
        assert!(error.to_string().contains(said), "{what}: {error}");
    }
    // More than was asked for is allowed, and is cut at the end of the export.
    let liar = Liar::new(reply(7, move |r| chunk(r, 1, 5, &[1, u32::MAX, 2].map(u32::to_be_bytes).concat())));
    let source = storage(&liar).open_source(&address("disk"), &SourceView::Live).unwrap();
    assert_eq!(source.device.extent_at(4096).unwrap().end, SIZE);
}

/// A write whose answer is a lie is a write that nobody knows of.
#[test]
fn a_lie_about_a_write_leaves_it_unresolved() {
    let liar = Liar::new(reply(1, |r| chunk(Request { cookie: !r.cookie, ..r }, 1, 0, &[])));
    let target = storage(&liar).open_target(&address("disk")).unwrap();
    let device = target.device();
    let error = in_time("a write", || device.write_at(0, &[1; 4096])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert!(device.flush().unwrap_err().to_string().contains("its I/O is not over"));
}
