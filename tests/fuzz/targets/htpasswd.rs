//! Users files: whatever is accepted is written as it was, each user once, and edits leave the lines of others alone.

use std::collections::BTreeSet;

use harmonia::access::users::htpasswd::{Htpasswd, UserName};

pub(super) fn property(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut file = match Htpasswd::parse(text) {
        Ok(file) => file,
        Err(error) => {
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
            assert!(!error.problem.help().is_empty());
            return;
        }
    };
    let ended = if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
    assert_eq!(file.to_string(), ended);
    let names: Vec<UserName> = file.users().map(|(name, _)| name.clone()).collect();
    let lines: Vec<_> = ended.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(names.len(), lines.len(), "a line is neither a comment nor a user");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a user is there twice");
    for (name, line) in names.iter().zip(&lines) {
        assert!(line.starts_with(&format!("{name}:$2")));
    }

    let Some((first, hash)) = file.users().next().map(|(name, hash)| (name.clone(), hash.clone())) else { return };
    assert!(file.remove(&first) && !file.remove(&first));
    assert_eq!(file.users().map(|(name, _)| name).collect::<Vec<_>>(), names[1..].iter().collect::<Vec<_>>());
    assert!(!file.set(&first, hash.clone()) && file.set(&first, hash));
    assert_eq!(Htpasswd::parse(&file.to_string()).unwrap().users().count(), names.len());
}
