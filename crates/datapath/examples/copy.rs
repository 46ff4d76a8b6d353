//! Copies one file to another through the engine and says what it cost: `cargo run --example copy -- SOURCE TARGET [VERIFY]`,
//! where VERIFY is `off` or `written`. The target must exist and be at least as large.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use tanist_datapath::io::blocking::BlockingFile;
use tanist_datapath::{BlockDevice, Progress, Transfer, TransferConfig, TransferEvent};
use tanist_model::policy::VerifyMode;
use tanist_model::run::Checkpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, rest @ ..] = arguments.as_slice() else {
        return Err("usage: copy SOURCE TARGET [VERIFY]".into());
    };
    let verify = if rest.first().is_some_and(|mode| mode == "off") { VerifyMode::Off } else { VerifyMode::Written };
    let (source, target) = (open(source, false)?, open(target, true)?);
    let config = TransferConfig { verify, ..TransferConfig::new(Checkpoint::START, source.size_bytes()) };
    let start = Instant::now();
    let (sender, events) = channel();
    let transfer = Transfer::start(source, target, config, move |event| drop(sender.send(event)));
    for event in events {
        match event {
            TransferEvent::Durable { checkpoint, .. } => transfer.committed(checkpoint.seq),
            last => println!("{last:?}"),
        }
    }
    println!("{:.2?}, limited by {:?}", start.elapsed(), transfer.progress().limiting_stage(&Progress::default()));
    let memory = std::fs::read_to_string("/proc/self/status")?;
    memory.lines().filter(|line| line.starts_with("VmHWM")).for_each(|line| println!("{line}"));
    Ok(())
}

fn open(path: &str, write: bool) -> io::Result<Arc<BlockingFile>> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).write(write).custom_flags(direct).open(path)?;
    BlockingFile::new(file).map(Arc::new)
}
