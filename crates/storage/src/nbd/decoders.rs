//! What has to hold of whatever a server of NBD sends; see [`crate::decoders`].

use super::error::NbdError;
use super::options::{Info, NAME_LIMIT, Opt, REPLY_HEAD_LEN, Reply, ReplyHead};
use super::reply::{Assembly, Head, Progress};
use super::request::{Command, Request};

type Verdict = Result<(), String>;

fn words(error: NbdError) -> String {
    error.to_string()
}

/// An answer to an option: names are names, block sizes fit to each other.
pub(crate) fn option_reply(mut bytes: &[u8]) -> Verdict {
    let head = bytes.split_off(..REPLY_HEAD_LEN).and_then(|head| head.first_chunk()).ok_or("too short")?;
    let head = ReplyHead::read(head, Opt::Go).map_err(words)?;
    let payload = usize::try_from(head.length).ok().and_then(|length| bytes.get(..length)).ok_or("cut short")?;
    match Reply::read(head.kind, payload).map_err(words)? {
        Reply::Server(name) => assert!(name.len() <= NAME_LIMIT && payload.len() >= 4 + name.len()),
        Reply::Context(context) => assert_eq!(context.name.len(), payload.len() - 4),
        Reply::Info(Info::BlockSize(sizes)) => {
            let ordered = sizes.minimum <= sizes.preferred && sizes.preferred <= sizes.maximum;
            assert!(ordered && sizes.minimum.is_power_of_two(), "{sizes:?}");
        }
        Reply::Refused(refusal) => assert!(refusal.in_words().len() < 1024),
        Reply::Ack | Reply::Info(_) => {}
    }
    Ok(())
}

/// Replies to one request: as much data as was asked for, or a reason why not; and no byte read that is not the reply's.
pub(crate) fn replies(mut bytes: &[u8]) -> Verdict {
    let choice = *bytes.split_off_first().ok_or("nothing was said")?;
    let commands = [Command::Read, Command::Write { fua: false }, Command::Flush, Command::BlockStatus];
    let command = commands[usize::from(choice) % commands.len()];
    let request = Request { command, offset: 4096, length: 1024 };
    let mut assembly = Assembly::new(request, choice & 0x80 != 0, vec![1]);
    loop {
        let head = Head::read(&mut bytes).map_err(words)?;
        if assembly.take(&head, &mut bytes).map_err(words)? == Progress::Done {
            break;
        }
    }
    let outcome = assembly.finish().map_err(words)?;
    assert_eq!(outcome.data.len(), if command == Command::Read { 1024 } else { 0 });
    assert_eq!(outcome.status.len(), usize::from(command == Command::BlockStatus));
    assert!(outcome.status.values().flatten().all(|stretch| stretch.length > 0));
    Ok(())
}
