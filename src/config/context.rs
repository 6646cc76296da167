//! What the checkers of meaning share: the tree for places, the names that are declared, and the faults so far.

use super::fault::{Code, Fault};
use super::leaf::{
    LeafFault, LockName, MessagePattern, MessagePatterns, OneOrMany, Pattern, Patterns, Period, ProjectName,
    SecretName,
};
use super::place::{Places, placed, singular};
use super::project::DEFAULT_PROJECT;
use super::secret::SecretConfig;
use super::source::SourceFile;
use super::suggest::did_you_mean;
use super::tree::{Node, Path, Span};
use indexmap::IndexMap;
use rouse_contract::ProviderKind;
use rouse_contract::units::Currency;
use rouse_model::locks::Lock;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) struct Context<'a> {
    pub(crate) kinds: &'a [Arc<dyn ProviderKind>],
    tree: &'a Node,
    sources: &'a [SourceFile],
    places: Places<'a>,
    /// Where faults of structure are: what stands there is not known in full.
    broken: BTreeSet<Path>,
    /// The same for faults of YAML.
    misread: Vec<Span>,
    pub(crate) faults: Vec<Fault>,
    /// Known once that section is checked.
    pub(crate) secrets: IndexMap<SecretName, SecretConfig>,
    pub(crate) locks: IndexMap<LockName, Lock>,
    /// The first that was written, and where.
    currency: Option<(Currency, Span)>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        tree: &'a Node,
        sources: &'a [SourceFile],
        kinds: &'a [Arc<dyn ProviderKind>],
        kind_names: &'a [&'static str],
        broken: BTreeSet<Path>,
        misread: Vec<Span>,
    ) -> Self {
        let places = Places { tree, kinds: kind_names };
        Self {
            kinds,
            tree,
            sources,
            places,
            broken,
            misread,
            faults: Vec::new(),
            secrets: IndexMap::new(),
            locks: IndexMap::new(),
            currency: None,
        }
    }

    pub(crate) fn push(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// A fault of a text, at the part of it that is wrong.
    fn push_leaf(&mut self, fault: LeafFault, path: &Path) {
        let message = placed(&fault.message, &self.place(path));
        self.push(Fault::new(fault.code, self.value(path), message).label(fault.help.unwrap_or_default()));
    }

    /// Where a value stands.
    pub(crate) fn value(&self, path: &Path) -> Span {
        self.tree.value_span(path)
    }

    /// Where a key stands.
    pub(crate) fn key(&self, path: &Path) -> Span {
        self.tree.key_span(path)
    }

    /// Where one value stands that is alone, or the `i`-th of a list.
    pub(crate) fn item(&self, path: &Path, i: usize) -> Span {
        self.value(&path.join(i))
    }

    /// Where a part of a text stands.
    pub(crate) fn part(&self, path: &Path, text: &str, at: Option<&Range<usize>>) -> Span {
        let span = self.value(path);
        let source = self.sources.get(span.file).map_or("", |source| source.text.as_str());
        at.map_or(span, |at| span.part(source, text, at))
    }

    /// What a person calls it.
    pub(crate) fn place(&self, path: &Path) -> String {
        self.places.of(path)
    }

    /// Whether all that stands at a path had the right structure.
    pub(crate) fn is_clean(&self, path: &Path) -> bool {
        let span = self.tree.at(path).map(|node| node.span);
        let within = |inner: &Span| span.is_some_and(|span| span.contains(*inner));
        !self.broken.iter().any(|broken| broken.starts_with(path)) && !self.misread.iter().any(within)
    }

    /// Whether something stands at a path.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.tree.at(path).is_some()
    }

    /// A file on the master, the value at a path; a fault where it depends on where the master was started.
    pub(crate) fn absolute(&mut self, file: String, path: &Path) -> PathBuf {
        if !file.starts_with('/') {
            let message = format!("the path `{file}` of {} is not absolute", self.place(&owner(path)));
            let fault = Fault::new(Code::BadPath, self.value(path), message);
            self.push(fault.note("a master is not always started in the same folder"));
        }
        file.into()
    }

    /// Whether the map at a path has no key but this.
    pub(crate) fn is_empty_but(&self, path: &Path, key: &str) -> bool {
        self.tree.at(path).is_some_and(|node| node.entries().iter().all(|entry| entry.key == key))
    }

    /// Keys of the map at a path, as they are written.
    fn keys(&self, path: &Path) -> Vec<&'a str> {
        self.tree
            .at(path)
            .map_or_else(Vec::new, |node| node.entries().iter().map(|entry| entry.key.as_str()).collect())
    }

    /// Whether a section declares a name; a fault at `span` where it does not.
    fn declared(&mut self, section: &str, name: &str, span: Span, path: &Path) -> bool {
        let names = self.keys(&Path::of([section]));
        if names.contains(&name) || (section == "projects" && name == DEFAULT_PROJECT) {
            return true;
        }
        let one = singular(section);
        let message = format!("{} refers to {one} `{name}`, which is not declared", self.place(&owner(path)));
        let mut fault = Fault::new(Code::BadReference, span, message);
        fault = match did_you_mean(name, names.iter().copied()) {
            Some(hint) => fault.label(hint),
            None if names.is_empty() => fault.note(format!("nothing is declared under `{section}`")),
            None => fault.note(format!("declared under `{section}`: {}", names.join(", "))),
        };
        self.push(fault);
        false
    }

    /// A name as the value at a path.
    pub(crate) fn refer(&mut self, section: &str, name: &str, path: &Path) -> bool {
        self.declared(section, name, self.value(path), path)
    }

    /// A name as the key at a path.
    pub(crate) fn refer_key(&mut self, section: &str, name: &str, path: &Path) -> bool {
        self.declared(section, name, self.key(path), path)
    }

    /// One name, or several, at a path; each at most once.
    pub(crate) fn refer_all<T: AsRef<str>>(
        &mut self,
        section: &str,
        names: &Option<OneOrMany<T>>,
        path: &Path,
    ) -> bool {
        let names: Vec<&str> =
            names.as_ref().map_or_else(Vec::new, |n| n.as_slice().iter().map(AsRef::as_ref).collect());
        let mut all = true;
        for (i, name) in names.iter().enumerate() {
            let span = self.item(path, i);
            all &= self.declared(section, name, span, path);
            if let Some(first) = names[..i].iter().position(|other| other == name) {
                let message = format!("`{name}` stands twice in {}", self.place(path));
                let first = self.item(path, first);
                self.push(Fault::new(Code::DuplicateKey, span, message).related(first, "first here"));
                all = false;
            }
        }
        all
    }

    #[expect(clippy::unused_self, reason = "reads as one of the context's answers")]
    pub(crate) fn default_project(&self) -> ProjectName {
        DEFAULT_PROJECT.parse().expect("a literal that is a name")
    }

    /// The project that is named, or the default one.
    pub(crate) fn project(&mut self, named: Option<ProjectName>, path: &Path) -> ProjectName {
        let Some(project) = named else { return self.default_project() };
        self.refer("projects", &project, path);
        project
    }

    /// A secret that is referred to; a fault where it is not declared or does not reach so far.
    pub(crate) fn secret(
        &mut self,
        name: &str,
        path: &Path,
        project: &str,
        builder: Option<&str>,
    ) -> Option<SecretName> {
        if !self.refer("secrets", name, path) {
            return None;
        }
        let (name, secret) = self.secrets.get_key_value(name)?;
        let (name, reach) = (name.clone(), secret.reach.clone());
        if !reach.covers(project, builder) {
            let who =
                builder.map_or_else(|| self.place(&owner(path)), |builder| format!("builder `{builder}`"));
            let message = format!("secret `{name}` does not reach {who}");
            let list = |names: Vec<&str>, what: &str| {
                (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
            };
            let builders = list(reach.builders.iter().map(|b| b.as_str()).collect(), "builders");
            let projects = list(reach.projects.iter().map(|p| p.as_str()).collect(), "projects");
            let whose = builders.into_iter().chain(projects).collect::<Vec<_>>().join("; ");
            let fault =
                Fault::new(Code::SecretReach, self.value(path), message).note(format!("it is for {whose}"));
            self.push(fault.related(self.key(&Path::of(["secrets", &name])), "declared here"));
        }
        Some(name)
    }

    /// A secret that the provider uses for a pool, which its builds never see; a fault where it is not declared, or can be for no pool: a pool serves
    /// projects, and knows no builders.
    pub(crate) fn secret_of_pool(&mut self, name: &str, path: &Path) {
        if !self.refer("secrets", name, path) {
            return;
        }
        let Some(reach) = self.secrets.get(name).map(|secret| secret.reach.clone()) else { return };
        if reach.projects.is_empty() && !reach.builders.is_empty() {
            let message = format!(
                "secret `{name}` is for builders, and {} uses it for all of its builds",
                self.place(&owner(path))
            );
            let fault = Fault::new(Code::SecretReach, self.value(path), message)
                .note("name its `projects` instead, or neither");
            self.push(fault.related(self.key(&Path::of(["secrets", name])), "declared here"));
        }
    }

    pub(crate) fn patterns(&mut self, texts: Option<OneOrMany<Pattern>>, path: &Path) -> Option<Patterns> {
        Patterns::new(texts?.into_vec()).map_err(|fault| self.push_leaf(fault, path)).ok()
    }

    pub(crate) fn message_patterns(
        &mut self,
        texts: OneOrMany<MessagePattern>,
        path: &Path,
    ) -> Option<MessagePatterns> {
        MessagePatterns::new(texts.into_vec()).map_err(|fault| self.push_leaf(fault, path)).ok()
    }

    /// A fault where another currency was written before: nobody knows what one is worth in the other.
    pub(crate) fn one_currency(&mut self, currency: Currency, path: &Path) {
        let here = self.value(path);
        match &self.currency {
            None => self.currency = Some((currency, here)),
            Some((first, _)) if *first == currency => {}
            Some((first, there)) => {
                let message = format!("two currencies, {first} and {currency}, in one configuration");
                let fault = Fault::new(Code::Together, here, message).related(*there, "the first");
                self.push(fault);
            }
        }
    }

    /// A fault where a length of time is too short to make sense.
    pub(crate) fn at_least(&mut self, period: Option<Period>, least: Period, path: &Path) {
        if let Some(period) = period.filter(|period| *period < least) {
            let message = format!("`{period}` is too short in {}", self.place(path));
            let fault = Fault::new(Code::OutOfRange, self.value(path), message);
            self.push(fault.label(format!("at least `{least}`")));
        }
    }

    /// A fault where a map has not exactly one of some keys; none where its structure is faulty anyway.
    pub(crate) fn one_of(&mut self, path: &Path, of: &[&str], what: &str) {
        let there: Vec<&str> = self.keys(path).into_iter().filter(|key| of.contains(key)).collect();
        if !self.is_clean(path) && there.len() < 2 {
            return;
        }
        let place = self.place(path);
        let fault = match there.as_slice() {
            [] => {
                let fault = Fault::new(Code::OneOf, self.key(path), format!("{place} has no {what}"));
                fault.label("one of the keys below is missing")
            }
            [first, second, ..] => {
                let names: Vec<_> = there.iter().map(|key| format!("`{key}`")).collect();
                let message = format!("{place} has more than one {what}: {}", names.join(", "));
                let first = self.key(&path.join(first));
                Fault::new(Code::OneOf, self.key(&path.join(second)), message).related(first, "already this")
            }
            [_] => return,
        };
        self.push(fault.note(format!("exactly one of: {}", of.join(", "))));
    }

    /// Faults for keys that are only for others than this; none where a fault may be why it is taken for what it is.
    pub(crate) fn not_with(&mut self, path: &Path, keys: &[&str], only: &str) {
        if !self.is_clean(path) {
            return;
        }
        for key in self.keys(path).into_iter().filter(|key| keys.contains(key)) {
            let message = format!("`{key}` of {} is only for {only}", self.place(path));
            self.push(Fault::new(Code::Together, self.key(&path.join(key)), message));
        }
    }

    /// Declared accounts of a kind of provider, in order.
    pub(crate) fn accounts_of(&self, kind: &str) -> Vec<&'a str> {
        self.accounts(|account| account.entry(kind).is_some())
    }

    /// Declared accounts of other kinds.
    pub(crate) fn accounts_of_others(&self, kind: &str) -> Vec<&'a str> {
        self.accounts(|account| account.entry(kind).is_none())
    }

    fn accounts(&self, wanted: impl Fn(&Node) -> bool) -> Vec<&'a str> {
        let accounts = self.tree.get("providers").map_or(&[][..], Node::entries);
        accounts.iter().filter(|account| wanted(&account.value)).map(|account| account.key.as_str()).collect()
    }
}

/// The object that a path leads into.
fn owner(path: &Path) -> Path {
    let step = path.0.first().is_some_and(|s| s == "builders") && path.0.get(2).is_some_and(|s| s == "steps");
    Path(path.0.iter().take(if step { 4 } else { 2 }).cloned().collect())
}
