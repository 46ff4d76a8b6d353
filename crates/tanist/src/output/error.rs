//! A refusal as people read it: error, cause, hint.

use tanist_model::api::Refusal;

use super::{Style, Tone};

/// Three lines at most.
#[must_use]
pub fn render_refusal(refusal: &Refusal, style: Style) -> String {
    let mut lines = vec![format!("{} {}", style.paint(Tone::Bad, "error:"), refusal.error)];
    if let Some(cause) = &refusal.cause {
        lines.push(format!("{} {cause}", style.paint(Tone::Dim, "cause:")));
    }
    if let Some(hint) = &refusal.hint {
        lines.push(format!("{}  {hint}", style.paint(Tone::Strong, "hint:")));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use tanist_model::api::RefusalCode;
    use tanist_model::time::Timestamp;

    use super::*;

    #[test]
    fn error_cause_hint() {
        let refusal = Refusal::new(RefusalCode::Guarded, "the target san-b/vol9 holds data")
            .cause("an ext4 file system begins on it")
            .hint("look at it, then say `--overwrite-target`");
        insta::assert_snapshot!(render_refusal(&refusal, Style { colour: false, now: Timestamp(0) }), @r"
        error: the target san-b/vol9 holds data
        cause: an ext4 file system begins on it
        hint:  look at it, then say `--overwrite-target`
        ");
    }
}
