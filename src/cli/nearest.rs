//! The known name that a mistyped one most likely means.

/// The name of `known` nearest to `typed`, where one is near enough to be a slip of the finger: at
/// most one edit for each four characters, and two at least.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (typed.chars().count() / 4).max(2);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&typed.to_lowercase(), &name.to_lowercase()), name))
        .filter(|&(distance, name)| distance <= limit && distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// A sentence that offers the nearest name.
#[must_use]
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(typed, known).map(|name| format!("did you mean {name}?"))
}

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
    fn a_slip_finds_the_name_and_nonsense_finds_none() {
        let known = ["vf-8", "vf-4", "simgpu_mdev-small", "simgpu_mdev-large"];
        assert_eq!(nearest("simgpu-mdev-smal", known), Some("simgpu_mdev-small"));
        assert_eq!(nearest("VF8", known), Some("vf-8"));
        assert_eq!(nearest("passthrough", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn an_address_with_a_wrong_digit_finds_the_gpu() {
        assert_eq!(nearest("0000:41:00.1", ["0000:41:00.0", "0000:c1:00.0"]), Some("0000:41:00.0"));
    }

    #[test]
    fn another_slices_number_is_never_offered() {
        let known = ["s16".to_owned(), "s18".to_owned()];
        assert_eq!(slice_hint("s17", &known).as_deref(), Some("the slices are s16, s18"));
        assert_eq!(slice_hint("18", &known).as_deref(), Some("did you mean s18?"));
        assert_eq!(slice_hint("S16", &known).as_deref(), Some("did you mean s16?"));
        assert!(slice_hint("s17", &[]).is_some_and(|hint| hint.contains("no slices")));
    }
}
