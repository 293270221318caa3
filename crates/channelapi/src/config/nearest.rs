//! "Did you mean …?" for keys, variables, flags and verbs.

/// Below this likeness a guess confuses more than it helps.
const LIKENESS_MIN: f64 = 0.55;

/// The candidate that `word` is most likely a slip of.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    candidates
        .into_iter()
        .map(|candidate| (likeness(&word, &plain(candidate)), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// `"; did you mean `port`?"`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |guess| format!("; did you mean `{guess}`?"))
}

/// Case and separators are what people remember least.
fn plain(word: &str) -> String {
    word.to_ascii_lowercase().replace(['-', '.', ' '], "_")
}

fn likeness(word: &str, candidate: &str) -> f64 {
    let edits = strsim::normalized_damerau_levenshtein(word, candidate);
    // `cors_origins` for `http_cors_origins`: all of its words are there, its section was forgotten. Four letters keep
    // out accidents, and the edits break the tie between several that contain it.
    let contained = word.len() >= 4 && format!("_{candidate}_").contains(&format!("_{word}_"));
    if contained { 0.7 + 0.3 * edits } else { edits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(word: &str, expected: Option<&str>) {
        let candidates = [
            "port",
            "address",
            "data_dir",
            "log.level",
            "log.format",
            "socketio.ping_interval",
            "socketio.ping_timeout",
            "http.proxy_protocol",
        ];
        assert_eq!(nearest(word, candidates), expected, "{word}");
    }

    #[test]
    fn slips_find_what_was_meant() {
        check("prot", Some("port"));
        check("PORT", Some("port"));
        check("adress", Some("address"));
        check("data-dir", Some("data_dir"));
        check("datadir", Some("data_dir"));
        check("level", Some("log.level"));
        check("log-levl", Some("log.level"));
        check("ping_interval", Some("socketio.ping_interval"));
    }

    #[test]
    fn strangers_find_nothing() {
        check("kubernetes", None);
        check("x", None);
        check("", None);
    }
}
