//! The pages of the event codes, built in so that they are there at 3 a.m. without a network.

use tanist_model::event::EventCode;

use super::table::Rows;
use super::{Style, Tone, words};

macro_rules! pages {
    ($($code:literal)*) => {
        /// Code and page, in the order of the codes.
        const PAGES: &[(&str, &str)] = &[$((
            $code,
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations/events/", $code, ".md")),
        ),)*];
    };
}

pages! {
    "T101" "T102" "T103" "T104" "T105" "T106" "T107" "T108" "T109" "T110"
    "T201" "T202" "T203" "T204" "T205" "T206" "T207" "T208" "T209" "T210" "T211" "T212" "T213" "T214" "T215"
    "T216" "T217"
    "T301" "T302" "T303" "T304" "T305" "T306" "T307" "T308" "T309"
    "T401" "T402" "T403" "T404" "T405" "T406" "T407" "T408" "T409"
    "T410" "T411" "T412" "T413" "T414" "T415" "T416" "T417" "T418" "T419"
    "T420" "T421" "T422" "T423" "T424" "T425" "T426" "T427" "T428"
    "T501" "T502" "T503" "T504" "T505" "T506" "T507" "T508" "T509"
    "T510" "T511" "T512" "T513" "T514" "T515" "T516" "T517" "T518" "T519" "T520"
    "T601" "T602" "T603" "T604"
}

/// The page of a code, as Markdown; `None` only if a code was added without one, which a test refuses.
#[must_use]
pub fn page(code: EventCode) -> Option<&'static str> {
    PAGES.iter().find(|(name, _)| *name == code.code()).map(|(_, page)| *page)
}

/// The page for a terminal: headings stand out, the rest stays as it is written.
#[must_use]
pub fn render_page(page: &str, style: Style) -> String {
    page.lines().map(|line| render_line(line, style) + "\n").collect()
}

fn render_line(line: &str, style: Style) -> String {
    match line.trim_start_matches('#') {
        rest if rest.len() < line.len() => style.paint(Tone::Strong, rest.trim_start()),
        _ => line.to_owned(),
    }
}

/// All codes with their titles.
#[must_use]
pub fn render_codes(style: Style) -> String {
    let mut rows = Rows::with_heading(&["CODE", "SEVERITY", "WHAT HAPPENED"], style);
    for code in EventCode::ALL {
        let severity = code.severity();
        let word = style.paint(words::severity_tone(severity), words::severity(severity));
        rows.push([code.code().to_owned(), word, code.title().to_owned()]);
    }
    rows.render(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let codes: Vec<&str> = EventCode::ALL.iter().map(|code| code.code()).collect();
        let built_in: Vec<&str> = PAGES.iter().map(|(code, _)| *code).collect();
        assert_eq!(built_in, codes);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations/events");
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        assert_eq!(files, codes.iter().map(|code| format!("{code}.md")).collect::<Vec<_>>());
    }

    #[test]
    fn a_page_says_what_it_means_and_what_to_do() {
        for code in EventCode::ALL {
            let page = page(*code).unwrap();
            assert_eq!(page.lines().next(), Some(format!("# {code}: {}", code.title()).as_str()));
            for heading in ["## What it means", "## What tanist does", "## What to check", "## What to type"] {
                assert!(page.contains(&format!("\n{heading}\n")), "{code} lacks '{heading}'");
            }
            assert!((10..=30).contains(&page.lines().count()), "{code} has {} lines", page.lines().count());
        }
    }
}
