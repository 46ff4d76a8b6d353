//! Whether there is room for so many agents here: open files, and replications that each have two of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tanist_model::api::{Refusal, RefusalCode};

use crate::cli::bench::BenchServerArgs;
use crate::failure::Failure;

/// Open files that are not connections of agents.
const OTHERS: u64 = 256;

/// # Errors
/// More replications than pairs of agents.
pub(super) fn check(args: &BenchServerArgs) -> Result<(), Failure> {
    let fewest = args.agents.iter().copied().min().unwrap_or(0);
    match args.replications {
        Some(replications) if replications > fewest / 2 => {
            let error = format!("{replications} replications need {} agents, and there are {fewest}", replications * 2);
            Err(Refusal::new(RefusalCode::Invalid, error).hint("ask for fewer replications or for more agents").into())
        }
        _ => Ok(()),
    }
}

/// Each agent is an open file here and one in the server, which inherits the limit.
///
/// # Errors
/// The limit cannot be raised so far.
pub(super) fn raise_open_files(agents: u64) -> Result<(), Failure> {
    let limit = getrlimit(Resource::Nofile);
    let needed = agents + OTHERS;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) else {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum });
        return raised.map_err(|e| Failure::io(format!("raise the limit of open files to {needed}"), e.into()));
    };
    let error = format!("{agents} agents need {needed} open files, and this shell allows {maximum}");
    let hint = format!("raise it (`ulimit -Hn {needed}` as root, or LimitNOFILE), or ask for fewer: --agents N");
    Err(Refusal::new(RefusalCode::Conflict, error).hint(hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_system_allows_is_refused_with_a_number() {
        let refusal = match getrlimit(Resource::Nofile).maximum {
            Some(_) => raise_open_files(1 << 40).unwrap_err().refusal(),
            // Nothing to refuse.
            None => return,
        };
        assert!(refusal.error.contains("open files") && refusal.hint.unwrap().contains("--agents"));
    }
}
