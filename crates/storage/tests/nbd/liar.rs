//! A server of the test: it keeps to the protocol up to the point at which it is told to lie.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tempfile::TempDir;

pub const SIZE: u64 = 1 << 20;

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub command: u16,
    pub cookie: u64,
    pub offset: u64,
    pub length: u32,
}

/// What the server does instead of what it should.
#[derive(Clone)]
pub enum Lie {
    /// Sent in place of the greeting.
    Greeting(Vec<u8>),
    /// Sent in answer to the option with this number.
    Option(u32, Vec<u8>),
    /// Sent again and again in answer to the option, until nobody takes it any more.
    EndlessOption(u32, Vec<u8>),
    /// Sent in answer to every request of the command.
    Reply(u16, Arc<dyn Fn(Request) -> Vec<u8> + Send + Sync>),
    /// The same without end.
    EndlessReply(u16, Arc<dyn Fn(Request) -> Vec<u8> + Send + Sync>),
}

/// Listens until the process of the test ends.
pub struct Liar {
    folder: TempDir,
}

impl Liar {
    pub fn new(lie: Lie) -> Self {
        let folder = super::directory();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, lie) = (stream.unwrap(), lie.clone());
                // That the client hangs up is what the tests are about.
                thread::spawn(move || drop(serve(stream, &lie)));
            }
        });
        Self { folder }
    }

    pub fn socket(&self) -> PathBuf {
        Path::join(self.folder.path(), "s")
    }
}

fn read<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\x00\x03";

/// An answer to an option.
pub fn option_reply(option: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [
        &0x0003_e889_0455_65a9_u64.to_be_bytes()[..],
        &option.to_be_bytes(),
        &kind.to_be_bytes(),
        &length.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// What is said of an export of this size, with flush, zeros and several connections.
pub fn export_info(size_bytes: u64) -> Vec<u8> {
    [&0_u16.to_be_bytes()[..], &size_bytes.to_be_bytes(), &0b1_0100_0101_u16.to_be_bytes()].concat()
}

/// A piece of a structured reply.
pub fn chunk(request: Request, flags: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let head = [&0x668e_33ef_u32.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes()].concat();
    [&head[..], &request.cookie.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

pub fn data(offset: u64, length: usize) -> Vec<u8> {
    [&offset.to_be_bytes()[..], &vec![7; length]].concat()
}

fn serve(mut stream: UnixStream, lie: &Lie) -> io::Result<()> {
    if let Lie::Greeting(bytes) = lie {
        stream.write_all(bytes)?;
        return stream.read_exact(&mut [0; 64]);
    }
    stream.write_all(GREETING)?;
    read::<4>(&mut stream)?;
    while haggle(&mut stream, lie)? {}
    while answer(&mut stream, lie)? {}
    Ok(())
}

/// `false` once the export is open.
fn haggle(stream: &mut UnixStream, lie: &Lie) -> io::Result<bool> {
    read::<8>(stream)?;
    let (option, length) = (u32::from_be_bytes(read(stream)?), u32::from_be_bytes(read(stream)?));
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload)?;
    match lie {
        Lie::Option(of, bytes) if *of == option => {
            stream.write_all(bytes)?;
            return Ok(true);
        }
        Lie::EndlessOption(of, bytes) if *of == option => loop {
            stream.write_all(bytes)?;
        },
        _ => {}
    }
    let told = match option {
        7 => option_reply(7, 3, &export_info(SIZE)),
        10 => option_reply(10, 4, &[&1_u32.to_be_bytes()[..], b"base:allocation"].concat()),
        _ => Vec::new(),
    };
    stream.write_all(&[told, option_reply(option, 1, &[])].concat())?;
    Ok(option != 7)
}

/// `false` at the end.
fn answer(stream: &mut UnixStream, lie: &Lie) -> io::Result<bool> {
    let [_, _, _, _, _, _, high, low] = read::<8>(stream)?;
    let command = u16::from_be_bytes([high, low]);
    let (cookie, offset) = (u64::from_be_bytes(read(stream)?), u64::from_be_bytes(read(stream)?));
    let length = u32::from_be_bytes(read(stream)?);
    let request = Request { command, cookie, offset, length };
    if command == 1 {
        stream.read_exact(&mut vec![0; usize::try_from(length).unwrap()])?;
    }
    match lie {
        Lie::Reply(of, reply) if *of == command => stream.write_all(&reply(request))?,
        Lie::EndlessReply(of, reply) if *of == command => loop {
            stream.write_all(&reply(request))?;
        },
        _ => stream.write_all(&honest(request))?,
    }
    Ok(command != 2)
}

fn honest(request: Request) -> Vec<u8> {
    match request.command {
        0 => chunk(request, 1, 1, &data(request.offset, usize::try_from(request.length).unwrap())),
        7 => chunk(request, 1, 5, &[1, request.length, 0].map(u32::to_be_bytes).concat()),
        _ => chunk(request, 1, 0, &[]),
    }
}
