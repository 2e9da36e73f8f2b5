//! Which slice a mistyped one most likely means.

/// Slices shown in a hint; a longer list helps nobody.
const SHOWN: usize = 8;

/// A way out for a slice that does not exist. Numbers of slices are no spelling: `s18` is never
/// offered for `s17`, only `s17` for `17` or `S17`.
#[must_use]
pub fn slice_hint(typed: &str, known: &[String]) -> Option<String> {
    let number = |name: &str| name.trim_start_matches(['s', 'S', '-', '#']).parse::<u64>().ok();
    if let Some(name) = known.iter().find(|name| number(name).is_some() && number(name) == number(typed)) {
        return Some(format!("did you mean {name}?"));
    }
    match known.len() {
        0 => Some("there are no slices; `vgpuctl create` makes one".to_owned()),
        1..=SHOWN => Some(format!("the slices are {}", known.join(", "))),
        _ => Some("`vgpuctl slices` lists them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_slices_number_is_never_offered() {
        let known = ["s16".to_owned(), "s18".to_owned()];
        assert_eq!(slice_hint("s17", &known).as_deref(), Some("the slices are s16, s18"));
        assert_eq!(slice_hint("18", &known).as_deref(), Some("did you mean s18?"));
        assert_eq!(slice_hint("S16", &known).as_deref(), Some("did you mean s16?"));
        assert!(slice_hint("s17", &[]).is_some_and(|hint| hint.contains("no slices")));
    }
}
