//! Delivery to a script: the notice as JSON on its standard input, a process group of its own, and an end for all of it when its time
//! is up. Status 0 counts as delivered.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::config::ScriptConfig;
use crate::{DeliveryError, Notice};

/// The end of what a script says is kept, bytes: errors stand last.
const KEPT_BYTES: usize = 4096;

/// Kills the group when the delivery ends, however it ends: by its limit, and with the server.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nobody is left: that is what was wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs the script. The caller limits the time; when it drops this, every process of the script is killed.
pub async fn deliver(config: &ScriptConfig, notice: &Notice) -> Result<(), DeliveryError> {
    let body = serde_json::to_vec(notice).map_err(|error| DeliveryError::Config(error.to_string()))?;
    let mut child = start(config)?;
    // The group is named before anything of it can be reaped.
    let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A script may decide without reading.
            let _ = stdin.write_all(&body).await;
        }
    };
    let said = async { tokio::join!(end_of(stdout), end_of(stderr)) };
    let (status, output) = {
        tokio::pin!(said);
        let mut output = None;
        let waited = async { tokio::join!(feed, child.wait()).1 };
        tokio::pin!(waited);
        let status = loop {
            tokio::select! {
                both = &mut said, if output.is_none() => output = Some(both),
                status = &mut waited => break status.map_err(DeliveryError::NotStarted)?,
            }
        };
        // What stays in the background holds the pipes open: it is ended now.
        drop(group);
        (
            status,
            match output {
                Some(both) => both,
                None => said.await,
            },
        )
    };
    if status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&[output.0, output.1].concat()).into_owned();
    Err(DeliveryError::Script { ended: format!("ended with {status}"), output })
}

fn start(config: &ScriptConfig) -> Result<Child, DeliveryError> {
    let empty = || DeliveryError::Config("command is empty".to_owned());
    let (program, arguments) = config.command.split_first().ok_or_else(empty)?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").process_group(0).kill_on_drop(true);
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(DeliveryError::NotStarted)
}

/// Reads to the end, however much comes, and keeps the last of it.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let Some(mut pipe) = pipe else { return Vec::new() };
    let (mut kept, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
        kept.extend(chunk.iter().take(length));
        let surplus = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..surplus);
    }
    kept
}
