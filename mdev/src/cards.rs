//! What is known of cards beyond what they say themselves.

use std::sync::LazyLock;
use vgpud_config::catalogue::Catalogue;

/// The catalogue that vgpud was built with. One that could not be read, which its own tests rule out, knows
/// nothing.
pub(crate) fn catalogue() -> &'static Catalogue {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
        Catalogue::load().unwrap_or_else(|error| {
            tracing::error!("{error}");
            Catalogue::default()
        })
    });
    &CATALOGUE
}
