//! Delivery to a script: the notice as JSON on its standard input, and an end for all that it started when its time is up. Status 0
//! counts as delivered.

use std::process::Command;

use tanist_script::{Event, Exit, Keep, Keeps, Script};
use tokio::sync::mpsc;

use crate::config::ScriptConfig;
use crate::{DeliveryError, Notice};

/// Nothing that it says is an answer.
const KEEPS: Keeps = Keeps { out: Keep::Last(4096), err: Keep::Last(4096) };

/// Runs the script. The caller limits the time; when it drops this, every process of the script is killed.
pub async fn deliver(config: &ScriptConfig, notice: &Notice) -> Result<(), DeliveryError> {
    let body = serde_json::to_vec(notice).map_err(|error| DeliveryError::Config(error.to_string()))?;
    let empty = || DeliveryError::Config("command is empty".to_owned());
    let (program, arguments) = config.command.split_first().ok_or_else(empty)?;
    let mut command = Command::new(program);
    command.args(arguments);
    let (tell, mut told) = mpsc::unbounded_channel();
    let tell = move |event| {
        if let Event::Ended(exit) = event {
            // Nobody waits any more: the delivery was dropped.
            let _ = tell.send(exit);
        }
    };
    let script = Script::start(command, body, KEEPS, tell)
        .map_err(|cause| DeliveryError::NotStarted { program: program.clone(), cause })?;
    let exit = told.recv().await.unwrap_or(Exit::Unknown);
    if exit.is_well() { Ok(()) } else { Err(failed(script, exit).await) }
}

/// Its last words are waited for, but not by the server's own threads.
async fn failed(script: Script, exit: Exit) -> DeliveryError {
    let listen = move || {
        script.end();
        script.said()
    };
    DeliveryError::Script(exit, tokio::task::spawn_blocking(listen).await.unwrap_or_default())
}
