//! The fields of a narinfo, read without the code under test.

/// The lines of a narinfo as names and values, which `": "` separates.
pub(crate) fn fields(narinfo: &str) -> Vec<(&str, &str)> {
    let lines = narinfo.strip_suffix('\n').expect("no line feed at the end").split('\n');
    lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("not a field: {line:?}"))).collect()
}

/// All values of a field of a narinfo.
pub(crate) fn values<'t>(narinfo: &'t str, name: &str) -> Vec<&'t str> {
    fields(narinfo).into_iter().filter(|(field, _)| *field == name).map(|(_, value)| value).collect()
}

/// The value of a field that is there once.
pub(crate) fn value<'t>(narinfo: &'t str, name: &str) -> &'t str {
    let [value] = values(narinfo, name)[..] else { panic!("not one {name} in:\n{narinfo}") };
    value
}
