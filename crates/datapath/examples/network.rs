//! Copies one file to another through both halves of the networked form, over plain TCP to itself, and says what it cost:
//! `cargo run --example network -- SOURCE TARGET [STREAMS]`. The target must exist and be at least as large.

use std::fs::OpenOptions;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use tanist_datapath::frame::{FrameKey, StreamGeneration};
use tanist_datapath::gate::GateRules;
use tanist_datapath::io::blocking::BlockingFile;
use tanist_datapath::{
    Arrival, BlockDevice, Digests, LateStreams, Link, Progress, Receiver, ReceiverConfig, Sender, SenderConfig,
    TransferConfig, TransferEvent,
};
use tanist_model::id::{Epochs, RunId};
use tanist_model::run::Checkpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, rest @ ..] = arguments.as_slice() else {
        return Err("usage: network SOURCE TARGET [STREAMS]".into());
    };
    let streams: usize = rest.first().map_or(Ok(1), |count| count.parse())?;
    let (source, target) = (open(source, false)?, open(target, true)?);
    let size_bytes = source.size_bytes();
    let key = FrameKey { run: RunId(1), epochs: Epochs::default(), generation: StreamGeneration(1) };
    let start = Instant::now();
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (0..streams).map(|_| pair()).collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
    let (said, sent) = channel();
    let (grant, digests) = (Vec::new(), Digests::default());
    let config = SenderConfig {
        key,
        grant,
        from_seq: 0,
        size_bytes,
        compare: false,
        digests,
        limit: None,
        rules: GateRules::WHOLE,
    };
    let sender = Sender::start(source, config, ours, move |event| drop(said.send(event)));
    let arrivals = theirs.into_iter().map(Arrival::accept).collect::<Result<_, _>>()?;
    let transfer = TransferConfig::new(Checkpoint::START, size_bytes);
    let (told, events) = channel();
    let config = ReceiverConfig { key, transfer, rules: GateRules::WHOLE, late: LateStreams::default() };
    let receiver = Receiver::start(target, config, arrivals, move |event| drop(told.send(event)));
    let last = loop {
        match events.recv()? {
            TransferEvent::Durable { checkpoint, .. } => receiver.committed(checkpoint.seq),
            last => break last,
        }
    };
    println!("{last:?}");
    receiver.join();
    println!("{:?}", sent.recv()?);
    println!("{:.2?}, source limited by {:?}", start.elapsed(), sender.progress().limiting_stage(&Progress::default()));
    let memory = std::fs::read_to_string("/proc/self/status")?;
    memory.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}

fn open(path: &str, write: bool) -> io::Result<Arc<BlockingFile>> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).write(write).custom_flags(direct).open(path)?;
    BlockingFile::new(file).map(Arc::new)
}

fn pair() -> io::Result<(Link, Link)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    Ok((link(ours)?, link(listener.accept()?.0)?))
}

fn link(stream: TcpStream) -> io::Result<Link> {
    stream.set_nodelay(true)?;
    let (reader, writer) = (stream.try_clone()?, stream.try_clone()?);
    let shutdown = move || drop(stream.shutdown(Shutdown::Both));
    Ok(Link { reader: Box::new(reader), writer: Box::new(writer), shutdown: Arc::new(shutdown) })
}
