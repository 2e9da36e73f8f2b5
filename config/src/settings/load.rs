//! Reading `vgpud.toml` and its drop-ins.
//!
//! Each file is judged alone first, so that every complaint has a file and a line. Then the tables
//! are merged, later files winning key by key.

use super::{Settings, SettingsError, SettingsKey};
use crate::{GpuChoice, PciAddress, Quoted, Shown, printable};
use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
};
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

impl Settings {
    /// An example file with every key at its default and a word about it.
    pub const EXAMPLE: &str = include_str!("../../vgpud.toml");

    /// The settings in `path`, then in each `*.toml` of the folder `<path>.d` in order of name; a later
    /// file wins key by key. Files that are absent are the defaults.
    ///
    /// # Errors
    /// Where a file is there and cannot be read, or says something that vgpud does not understand.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let mut merged = Table::new();
        if let Some(text) = read(path)? {
            merge(&mut merged, checked(path, &text)?);
        }
        for path in drop_ins(path)? {
            if let Some(text) = read(&path)? {
                merge(&mut merged, checked(&path, &text)?);
            }
        }
        // Each file was understood alone, and merging takes whole values of them.
        let unfit = |message| SettingsError::Merged { path: path.to_owned(), message };
        let settings: Self =
            merged.try_into().map_err(|error: toml::de::Error| unfit(message(error.message())))?;
        match settings.undefined_class() {
            Some(message) => Err(unfit(message)),
            None => Ok(settings),
        }
    }

    /// A class that a layout asks for and no file defines.
    fn undefined_class(&self) -> Option<String> {
        let asked =
            self.layouts.iter().flat_map(|(name, layout)| layout.classes().map(move |class| (name, class)));
        let (name, class) = asked.into_iter().find(|(_, class)| !self.classes.contains_key(class))?;
        Some(format!(
            "[layout.{name}] asks for the class {class}, and there is no [class.{class}]; write one"
        ))
    }
}

fn read(path: &Path) -> Result<Option<String>, SettingsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::Read { path: path.to_owned(), source }),
    }
}

fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, SettingsError> {
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let failed = |source| SettingsError::Read { path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        // Editors and package managers leave `.x.toml.swp`, `x.toml~` and `x.toml.dpkg-old`.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// With what stands there, where that is one piece: a key that is there twice is not named otherwise.
fn syntax_message(text: &str, error: &toml::de::Error) -> String {
    match error.span().and_then(|span| text.get(span)).filter(|piece| !piece.trim().is_empty()) {
        Some(piece) if !piece.contains('\n') => format!("{}: {}", error.message(), Shown(piece)),
        _ => error.message().to_owned(),
    }
}

/// The table in `text`, after it was understood as settings by itself.
fn checked(path: &Path, text: &str) -> Result<Table, SettingsError> {
    let spanned = DeTable::parse(text).map_err(|error| SettingsError::Syntax {
        path: path.to_owned(),
        line: line(text, error.span().map_or(text.len(), |span| span.start)),
        message: bounded(&syntax_message(text, &error)),
    })?;
    let file = File { path, text, table: spanned.get_ref() };
    if let Err(error) = toml::from_str::<Settings>(text) {
        return Err(file.complaint(&error));
    }
    let mut table: Table = toml::from_str(text).map_err(|error| file.complaint(&error))?;
    if let Some(Value::Table(gpus)) = table.get_mut("gpu") {
        *gpus = file.spelled_alike::<PciAddress>(gpus, &["gpu"])?;
    }
    if let Some(Value::Table(layouts)) = table.get_mut("layout") {
        for (name, layout) in layouts {
            let Value::Table(gpus) = layout else { continue };
            *gpus = file.spelled_alike::<GpuChoice>(gpus, &["layout", name])?;
        }
    }
    Ok(table)
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// A file that is TOML, whatever it says.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
    table: &'a DeTable<'a>,
}

/// Where in a file something stands.
#[derive(Default)]
struct Place {
    /// Keys from the top level down.
    keys: Vec<String>,
    key_at: Range<usize>,
    value_at: Range<usize>,
}

impl File<'_> {
    /// A table by GPU, with each as the kernel writes it: two spellings of one are one GPU, in this
    /// file and the next. `table` names it from the top level down.
    fn spelled_alike<T: FromStr + ToString>(
        &self,
        gpus: &Table,
        table: &[&str],
    ) -> Result<Table, SettingsError> {
        let mut spellings = BTreeMap::new();
        let mut alike = Table::new();
        for (spelling, settings) in gpus {
            let gpu = spelling.parse::<T>().map_or_else(|_| spelling.clone(), |gpu| gpu.to_string());
            if let Some(other) = spellings.insert(gpu.clone(), spelling) {
                let place = place_of(self.table, &[table, &[spelling]].concat()).unwrap_or_default();
                let tables: Vec<String> = table.iter().map(ToString::to_string).collect();
                let at = self.key(spelling, &tables, place.key_at.start);
                return Err(SettingsError::Twice { at, other: other.clone() });
            }
            alike.insert(gpu, settings.clone());
        }
        Ok(alike)
    }

    /// Why the file cannot be settings, in the words of serde.
    fn complaint(&self, error: &toml::de::Error) -> SettingsError {
        let at = self.element_of(error).or_else(|| error.span()).unwrap_or(0..0);
        let place = place_at(self.table, &at).unwrap_or_default();
        let (key, table) = place.keys.split_last().map_or(("", &[][..]), |(key, table)| (&**key, table));
        if let Some((unknown, known)) = unknown_field(error.message()) {
            let way_out = match nearest(unknown, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys are {}", known.join(", ")),
            };
            return SettingsError::UnknownKey { at: self.key(unknown, table, at.start), way_out };
        }
        let mut message = message(error.message());
        if let Some((wrong, _)) = message.split_once(", expected struct ") {
            message = format!("{wrong}; write a table, [{key}]");
        }
        if let Some(example) = example(&place.keys).filter(|_| place.value_at.contains(&at.start)) {
            message.push_str("; as in ");
            message.push_str(example);
        }
        let value = shortened(self.text.get(at.clone()).unwrap_or_default());
        SettingsError::Value { at: self.key(key, table, at.start), value, message }
    }

    /// The element of a list that the error is about: toml gives the place of the whole list.
    fn element_of(&self, error: &toml::de::Error) -> Option<Range<usize>> {
        let list = value_at(self.table, &error.span()?)?.as_array()?;
        let quoted = |element: &&Spanned<DeValue<'_>>| {
            let text = element.get_ref().as_str();
            text.is_some_and(|text| error.message().contains(&Quoted(text).to_string()))
        };
        list.iter().find(quoted).map(Spanned::span)
    }

    fn key(&self, key: &str, table: &[String], offset: usize) -> Box<SettingsKey> {
        let (path, line) = (self.path.to_owned(), line(self.text, offset));
        Box::new(SettingsKey { path, line, table: table.join("."), key: key.to_owned() })
    }
}

/// As much of a library's words as a message has room for, in characters; some repeat whole values.
const LONGEST_WORDS: usize = 400;

fn bounded(words: &str) -> String {
    let line = printable(&words.trim_end().replace('\n', "; "));
    match line.char_indices().nth(LONGEST_WORDS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// serde's words, without those that the sentence around them says already.
fn message(words: &str) -> String {
    let words = bounded(words);
    match words.split_once(" is not ") {
        // Our own types quote the value first.
        Some((value, _)) if value.starts_with('"') => {
            words[value.len() + 1..].replacen("is not", "it is not", 1)
        }
        _ => words,
    }
}

/// The unknown key and the known ones, out of serde's message: serde takes the names from the type
/// that is read, so they cannot drift from it.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    Some((quoted.next()?, quoted.collect()))
}

fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    if let Some(longer) = known.iter().find(|known| unknown.len() > 2 && known.starts_with(unknown)) {
        return Some(longer);
    }
    let distance = |known: &str| strsim::damerau_levenshtein(unknown, known);
    let near = known.iter().map(|known| (distance(known), *known)).min()?;
    (near.0 <= 1 + near.1.len() / 4).then_some(near.1)
}

fn shortened(value: &str) -> String {
    let first = value.lines().next().unwrap_or_default();
    let short: String = first.chars().take(60).collect();
    let rest = if short.len() < value.len() { "…" } else { "" };
    format!("{}{rest}", printable(&short))
}

/// The innermost key at `at`, or with a value around it.
fn place_at(table: &DeTable<'_>, at: &Range<usize>) -> Option<Place> {
    let covers = |span: Range<usize>| span.start <= at.start && at.start < span.end.max(span.start + 1);
    for (key, value) in table {
        let inner = match value.get_ref() {
            DeValue::Table(table) => place_at(table, at),
            _ => None,
        };
        if let Some(place) =
            inner.or_else(|| (covers(key.span()) || covers(value.span())).then(Place::default))
        {
            return Some(outward(place, key, value));
        }
    }
    None
}

/// The value that stands exactly there.
fn value_at<'a>(table: &'a DeTable<'a>, at: &Range<usize>) -> Option<&'a DeValue<'a>> {
    table.values().find_map(|value| match value.get_ref() {
        found if value.span() == *at => Some(found),
        DeValue::Table(table) => value_at(table, at),
        _ => None,
    })
}

fn place_of(table: &DeTable<'_>, keys: &[&str]) -> Option<Place> {
    let (first, rest) = keys.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == first)?;
    let inner = match (rest, value.get_ref()) {
        ([], _) => Place::default(),
        (rest, DeValue::Table(table)) => place_of(table, rest)?,
        _ => return None,
    };
    Some(outward(inner, key, value))
}

fn outward(
    mut place: Place,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Place {
    if place.keys.is_empty() {
        (place.key_at, place.value_at) = (key.span(), value.span());
    }
    place.keys.insert(0, key.get_ref().clone().into_owned());
    place
}

/// The line of the example file that sets this key, commented out or not.
fn example(keys: &[String]) -> Option<&'static str> {
    let (key, tables) = keys.split_last()?;
    let mut here = false;
    for line in Settings::EXAMPLE.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(header) = line.strip_prefix('[') {
            here = header.split(['.', ']']).next() == tables.first().map(String::as_str);
        } else if here && line.split_once(" = ").is_some_and(|(name, _)| name == key) {
            return Some(line);
        }
    }
    None
}
