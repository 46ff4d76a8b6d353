//! Lines of the audit log.

use tanist_model::api::EventPage;
use tanist_model::event::Event;

use super::units::clock_ms;
use super::{Style, words};

/// A page, oldest first, as the server sends it.
#[must_use]
pub fn render_events(page: &EventPage, style: Style) -> String {
    if page.events.is_empty() {
        return "no events\n".to_owned();
    }
    page.events.iter().map(|event| render_event(event, style)).collect()
}

/// One line: fixed columns, so that a stream of them lines up.
#[must_use]
pub fn render_event(event: &Event, style: Style) -> String {
    let code = style.paint(words::severity_tone(event.severity), event.code.code());
    let replication = event.replication.as_ref().map_or("-", |name| name.as_str());
    let agent = event.agent.as_ref().map_or("-", |name| name.as_str());
    let by = match event.actor.as_str() {
        "server" => String::new(),
        actor if actor == agent => String::new(),
        actor => format!(" [{actor}]"),
    };
    format!("{:>6}  {}  {code}  {replication:<12}  {agent:<8}  {}{by}\n", event.seq, clock_ms(event.at), event.message)
}
