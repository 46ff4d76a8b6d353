//! The links between the project's own pages lead somewhere.

use crate::finding::Finding;
use crate::workspace::{Source, Workspace};

/// Follows every link of every page that stays within the checkout.
pub fn check(workspace: &Workspace) -> anyhow::Result<Vec<Finding>> {
    let pages = workspace.pages()?;
    Ok(pages.iter().flat_map(|page| dead_links(page, |path| workspace.holds(path))).collect())
}

fn dead_links(page: &Source, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let directory = page.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let dead = links(&page.text).filter(|link| !exists(&format!("{directory}/{link}")));
    dead.map(|link| Finding::new(&page.path, format!("the link to {link} leads nowhere"))).collect()
}

/// The targets of links to files: no addresses, no places within the page itself.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let files = targets.filter_map(|target| target.split('#').next());
    files.filter(|file| !file.is_empty() && !file.contains("://"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::assert_none;

    #[test]
    fn this_checkout_has_no_dead_links() {
        let workspace = Workspace::of_this_checkout();
        assert!(workspace.pages().unwrap().len() > 4, "the pages are found");
        assert_none(&check(&workspace).unwrap());
    }

    #[test]
    fn a_dead_link_is_found_and_others_are_left_alone() {
        let text = "[a](A.md) [b](../B.md#part) [here](#part) [far](https://example.org/x) and [dead](gone/C.md)";
        let page = Source { path: "docs/PAGE.md".to_owned(), text: text.to_owned() };
        let findings = dead_links(&page, |path| ["docs/A.md", "docs/../B.md"].contains(&path));
        assert_eq!(findings, [Finding::new("docs/PAGE.md", "the link to gone/C.md leads nowhere")]);
    }
}
