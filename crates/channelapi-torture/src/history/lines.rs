//! Histories as lines, for whoever has to find out what happened.

use super::{
    Answer, ChannelId, Client, Connected, Counted, Delivered, Entry, Event, History, Joined, Outcome, Pid,
    Publish, Purge,
};

impl History {
    pub(crate) fn publish_line(&self, publish: &Publish) -> String {
        let Publish { id, channel, keyed, ttl, batch, invoked, doubtful, outcome } = publish;
        let key = if *keyed { " with a key" } else { "" };
        let ttl = ttl.map_or(String::new(), |ttl| format!(" for {ttl:?}"));
        let batch = batch.map_or(String::new(), |batch| format!(" in batch {batch}"));
        let doubt = doubtful.map_or(String::new(), |at| format!(", in doubt since {at}"));
        let outcome = match outcome {
            Outcome::Refused(status) => format!("refused with {status}"),
            Outcome::Unknown => "outcome unknown".to_owned(),
            Outcome::Stored(answers) => answers.iter().map(answer_text).collect::<Vec<_>>().join(", "),
        };
        let name = &self.channel(*channel).name;
        format!("publish {id} to {name}{key}{ttl}{batch} at {invoked}{doubt}: {outcome}")
    }

    pub(crate) fn purge_line(&self, purge: &Purge) -> String {
        let Purge { channel, branch, invoked, ended, purged } = purge;
        let outcome = purged.map_or("in doubt since".to_owned(), |purged| format!("{purged} gone, known at"));
        let name = &self.channel(*channel).name;
        format!("purge of {name} (branch {}) at {invoked}: {outcome} {ended}", branch.0)
    }

    pub(crate) fn client_line(&self, client: &Client, entry: usize) -> String {
        let Entry { at, event } = &client.events[entry];
        let name = |channel: &ChannelId| &self.channel(*channel).name;
        let event = match event {
            Event::Connected(Connected { life, branch, asked, pid, .. }) => {
                let pid = match pid {
                    Pid::None => "no pid",
                    Pid::Same => "its pid: recovered",
                    Pid::New => "a new pid",
                };
                format!("connected to life {} (branch {}), asked for {asked:?}, got {pid}", life.0, branch.0)
            }
            Event::Gap { channel, reason } => format!("gap in {}: {reason}", name(channel)),
            Event::Joined(Joined { channel, asked, incomplete, counted }) => {
                let verdict =
                    incomplete.map_or("complete".to_owned(), |reason| format!("not recovered, {reason}"));
                let count = counted.map_or(String::new(), |Counted { unread, newest }| {
                    format!(", {unread} unread up to {newest}")
                });
                format!("joined {}, asked for {asked:?}: {verdict}{count}", name(channel))
            }
            Event::Delivered(Delivered { channel, id, position }) => {
                let position = position.map_or(String::new(), |position| format!(" at {position}"));
                format!("got {id} of {}{position}", name(channel))
            }
            Event::Checkpoint => "got a cursor".to_owned(),
            Event::Confirming { channel, offset } => format!("confirms {offset} in {}", name(channel)),
            Event::Confirmed { entry, offset } => {
                format!("is told that it has confirmed {offset}, as answer to [{entry}]")
            }
            Event::Standing { life, branch, channel, offset } => {
                format!("stands at {offset} in {}, in life {} (branch {})", name(channel), life.0, branch.0)
            }
            Event::Closed => "closed".to_owned(),
        };
        format!("{}[{entry}] {at}: {event}", client.name)
    }
}

fn answer_text(answer: &Answer) -> String {
    let position = answer.position.map_or("somewhere".to_owned(), |position| position.to_string());
    let duplicate = if answer.duplicate { " (a duplicate)" } else { "" };
    format!("stored at {position}{duplicate}, known at {} in branch {}", answer.at, answer.branch.0)
}
