//! A recording from another machine: a bundle, or a segment by itself.

use tanist_model::excerpt::excerpt;
use tanist_recording::bundle::Bundle;
use tanist_recording::replay::replay;
use tanist_recording::unpacked;

use crate::Verdict;

pub(crate) fn recordings(bytes: &[u8]) -> Verdict {
    let words = |error: &dyn std::error::Error| excerpt(&error.to_string());
    let own = env!("CARGO_PKG_VERSION");
    let mut inputs = 0;
    let mut watch = |step: tanist_recording::replay::Step<'_>| inputs += u64::from(step.input.is_some());
    let found = match Bundle::read(bytes) {
        Ok(bundle) => replay(bundle.segments(), own, Default::default(), &mut watch),
        Err(_) => {
            replay([unpacked(bytes).map(|lines| ("segment".to_owned(), lines))], own, Default::default(), &mut watch)
        }
    };
    let found = found.map_err(|error| words(&error))?;
    assert_eq!(found.inputs, inputs, "an input was counted and not shown, or shown and not counted");
    found.divergence.map_or(Ok(()), |divergence| Err(format!("diverges at line {}", divergence.line)))
}
