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
}
