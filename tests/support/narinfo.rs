//! Fields of a narinfo, parsed without the code under test.

/// Splits the lines of a narinfo into names and values at `": "`.
pub(crate) fn fields(narinfo: &str) -> Vec<(&str, &str)> {
    let lines = narinfo.strip_suffix('\n').expect("no line feed at the end").split('\n');
    lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("not a field: {line:?}"))).collect()
}

/// Returns all values of a field of a narinfo.
pub(crate) fn values<'t>(narinfo: &'t str, name: &str) -> Vec<&'t str> {
    fields(narinfo).into_iter().filter(|(field, _)| *field == name).map(|(_, value)| value).collect()
}

/// Returns the value of a field that occurs exactly once.
pub(crate) fn value<'t>(narinfo: &'t str, name: &str) -> &'t str {
    let [value] = values(narinfo, name)[..] else { panic!("not one {name} in:\n{narinfo}") };
    value
}
