//! Text → tree. Reads YAML 1.2, of which JSON is a part, with budgets that hold before memory is spent.
//!
//! What makes the rest unreadable ends the reading; everything else is noted, and the reading goes on.

mod syntax;

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use ostler_core::limits;

use crate::codes::Code;
use crate::node::{Entry, NodeId, Place, Step, StepBy, Tree, Value};
use crate::scalar;

/// A mistake in the text itself.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) at: At,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Where a mistake is: at a value, or at a place that belongs to none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At {
    Node(NodeId),
    Place(Place),
}

/// Reads one document into the tree and returns its root, with the mistakes that did not end the reading.
///
/// # Errors
/// The mistake after which nothing more can be said.
pub(crate) fn parse(text: &str, tree: &mut Tree) -> Result<(NodeId, Vec<Problem>), Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        tree,
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        alias_bytes: 0,
        problems: Vec::new(),
        place: Place { line: 1, column: 1, end_line: 1, end_column: 1 },
    };
    let mut options = granit_parser::Options::default();
    options.emit_comments = false;
    // The parser reads ahead of its events, so it has to know the limit itself.
    options.flow_nesting_limit = limits::CONFIG_DEPTH_MAX;
    options.block_nesting_limit = limits::CONFIG_DEPTH_MAX;
    let mut events: Parser<'_, StrInput<'_>> = Parser::new_from_str_with_options(text, options);
    let mut documents = 0_usize;
    while let Some(next) = events.next_event() {
        let (event, span) = next.map_err(|error| syntax::problem(&error))?;
        reader.place = syntax::place(&span);
        match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    let help = "keep one document: remove this `---` and what belongs to the other";
                    let at = At::Place(reader.place);
                    reader.note(Code::SeveralDocuments, at, "another document starts here", help);
                    break;
                }
            }
            Event::StreamEnd => break,
            event => reader.value(&event)?,
        }
    }
    let Reader { tree, root, problems, place, .. } = reader;
    match root {
        Some(root) if !matches!(tree.value(root), Value::Null) => Ok((root, problems)),
        _ => Err(Problem {
            code: Code::EmptyDocument,
            at: At::Place(Place { line: 1, column: 1, ..place }),
            message: "the document is empty".to_owned(),
            help: "write at least `version: 1`; a file that should not be empty was perhaps cut off while saving".to_owned(),
        }),
    }
}

struct Reader<'t> {
    tree: &'t mut Tree,
    open: Vec<Open>,
    root: Option<NodeId>,
    anchors: HashMap<usize, Anchor>,
    /// Text that aliases repeated so far: it costs memory although the document did not hold it.
    alias_bytes: usize,
    problems: Vec<Problem>,
    /// Of the event at hand.
    place: Place,
}

/// A list or map whose end was not read yet.
struct Open {
    id: NodeId,
    anchor: usize,
    content: Content,
}

enum Content {
    Seq(Vec<NodeId>),
    Map {
        entries: Vec<Entry>,
        seen: HashMap<Arc<str>, u32>,
        key: Key,
    },
    /// What a mistaken key or tag leads to: read, so that the reading can go on, and forgotten.
    Skipped,
}

enum Key {
    /// The next value is a key.
    Awaited,
    /// The next value belongs to this key.
    Read(Arc<str>, NodeId),
    /// The next value belongs to a key that was refused.
    Refused,
}

#[derive(Clone, Copy)]
enum Anchor {
    Open,
    Closed(NodeId),
}

// === impl Reader ===

impl Reader<'_> {
    fn value(&mut self, event: &Event<'_>) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, *style, *anchor, tag.as_deref()),
            Event::SequenceStart(_, anchor, tag) => {
                self.open(*anchor, tag.as_deref(), "seq", Content::Seq(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                let content = Content::Map { entries: Vec::new(), seen: HashMap::new(), key: Key::Awaited };
                self.open(*anchor, tag.as_deref(), "map", content)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close();
                Ok(())
            }
            Event::Alias(anchor) => self.alias(*anchor),
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), Problem> {
        let value = scalar::resolve(text, style, tag);
        let id = self.push(value.clone().unwrap_or(Value::Invalid))?;
        if value.is_none() {
            self.refuse_tag(id, tag);
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Closed(id));
        }
        let is_merge = style == ScalarStyle::Plain && text == "<<";
        if self.awaits_key() {
            let is_null = matches!(value, Some(Value::Null));
            self.key((!is_null).then_some(text), id, is_merge);
        } else {
            self.attach(id);
        }
        Ok(())
    }

    fn open(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        kind: &str,
        content: Content,
    ) -> Result<(), Problem> {
        let id = self.push(Value::Invalid)?;
        if self.open.len() >= limits::CONFIG_DEPTH_MAX {
            return Err(syntax::too_deep(self.place));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Open);
        }
        let mut content = content;
        if tag.is_some_and(|tag| tag.core_suffix() != Some(kind)) {
            self.refuse_tag(id, tag);
            content = Content::Skipped;
        }
        if self.awaits_key() {
            self.key(None, id, false);
            content = Content::Skipped;
        } else {
            self.attach(id);
        }
        if matches!(self.open.last(), Some(Open { content: Content::Skipped, .. })) {
            content = Content::Skipped;
        }
        self.open.push(Open { id, anchor, content });
        Ok(())
    }

    fn close(&mut self) {
        let Some(Open { id, anchor, content }) = self.open.pop() else { return };
        match content {
            Content::Seq(items) => self.tree.set_seq(id, items),
            Content::Map { entries, .. } => self.tree.set_map(id, entries),
            Content::Skipped => {}
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Closed(id));
        }
    }

    fn alias(&mut self, anchor: usize) -> Result<(), Problem> {
        let id = match self.anchors.get(&anchor) {
            Some(Anchor::Closed(target)) => self.copy(*target, self.open.len())?,
            Some(Anchor::Open) | None => {
                let id = self.push(Value::Invalid)?;
                let help = "write the value out instead of the alias";
                self.note(
                    Code::BadAlias,
                    At::Node(id),
                    "the alias stands for a value that contains it",
                    help,
                );
                id
            }
        };
        if self.awaits_key() {
            let text = match self.tree.value(id) {
                Value::Str(text) => Some(Arc::clone(text)),
                _ => None,
            };
            self.key(text.as_deref(), id, false);
        } else {
            self.attach(id);
        }
        Ok(())
    }

    /// Aliases are expanded, so that each value has a path of its own. The budgets count every copy.
    fn copy(&mut self, from: NodeId, depth: usize) -> Result<NodeId, Problem> {
        if depth > limits::CONFIG_DEPTH_MAX {
            return Err(syntax::too_deep(self.place));
        }
        let Some(node) = self.tree.get(from).cloned() else { return self.push(Value::Invalid) };
        let here = std::mem::replace(&mut self.place, node.place);
        let id = match &node.value {
            Value::Seq(items) => {
                let id = self.push(Value::Invalid)?;
                let items = items.iter().map(|item| self.copy(*item, depth + 1)).collect::<Result<_, _>>()?;
                self.tree.set_seq(id, items);
                id
            }
            Value::Map(entries) => {
                let id = self.push(Value::Invalid)?;
                let mut copies = Vec::with_capacity(entries.len());
                for entry in entries {
                    let key_node = self.copy(entry.key_node, depth + 1)?;
                    let value = self.copy(entry.value, depth + 1)?;
                    copies.push(Entry { key: Arc::clone(&entry.key), key_node, value });
                }
                self.tree.set_map(id, copies);
                id
            }
            Value::Str(text) => {
                self.alias_bytes += text.len();
                self.push(node.value.clone())?
            }
            _ => self.push(node.value.clone())?,
        };
        self.place = here;
        if self.alias_bytes > limits::CONFIG_BYTES_MAX {
            return Err(self.too_many("the aliases repeat more text than a document may hold"));
        }
        Ok(id)
    }

    fn push(&mut self, value: Value) -> Result<NodeId, Problem> {
        if self.tree.len() >= limits::CONFIG_NODES_MAX {
            return Err(self.too_many(&format!(
                "the document holds more than {} values once its aliases are expanded",
                limits::CONFIG_NODES_MAX
            )));
        }
        Ok(self.tree.push(value, self.place))
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Map { key: Key::Awaited, .. }, .. }))
    }

    fn key(&mut self, text: Option<&str>, id: NodeId, is_merge: bool) {
        let at = At::Node(id);
        let refused = if is_merge {
            let help = "write the keys out, or repeat a whole value through an alias: `key: *name`";
            self.note(Code::MergeKey, at, "the merge key `<<` is not supported", help);
            true
        } else if text.is_none() {
            self.note(
                Code::BadKey,
                at,
                "the key is not text",
                "write the key as a name, in quotes if need be",
            );
            true
        } else {
            false
        };
        let Some(Open { id: map, content: Content::Map { seen, key, .. }, .. }) = self.open.last_mut() else {
            return;
        };
        let Some(text) = text.filter(|_| !refused) else {
            *key = Key::Refused;
            return;
        };
        let text: Arc<str> = text.into();
        let parent = Some(Step { from: *map, by: StepBy::Key(Arc::clone(&text)) });
        let first_line = seen.get(&text).copied();
        if first_line.is_none() {
            seen.insert(Arc::clone(&text), self.place.line);
            *key = Key::Read(Arc::clone(&text), id);
        } else {
            *key = Key::Refused;
        }
        if let Some(node) = self.tree.get_mut(id) {
            node.parent = parent;
        }
        if let Some(first_line) = first_line {
            let shown = crate::node::path_step(&text);
            let message = format!("the key `{shown}` is already written on line {first_line}");
            self.note(Code::DuplicateKey, at, &message, "remove one of the two, or merge their values");
        }
    }

    fn attach(&mut self, id: NodeId) {
        match self.open.last_mut() {
            None => {
                self.root.get_or_insert(id);
            }
            Some(Open { content: Content::Seq(items), .. }) => items.push(id),
            Some(Open { content: Content::Map { entries, key, .. }, .. }) => {
                if let Key::Read(key, key_node) = std::mem::replace(key, Key::Awaited) {
                    entries.push(Entry { key, key_node, value: id });
                }
            }
            Some(Open { content: Content::Skipped, .. }) => {}
        }
    }

    fn refuse_tag(&mut self, id: NodeId, tag: Option<&Tag>) {
        let shown: String = tag.map(Tag::original).unwrap_or_default().chars().take(80).collect();
        let message = format!("the tag `{shown}` is not supported here");
        self.note(Code::CustomTag, At::Node(id), &message, "remove the tag; quotes turn a value into text");
    }

    fn note(&mut self, code: Code, at: At, message: &str, help: &str) {
        // One more than is ever shown, so that it is seen that there were more.
        if self.problems.len() <= limits::DIAGNOSTICS_MAX {
            self.problems.push(Problem { code, at, message: message.to_owned(), help: help.to_owned() });
        }
    }

    fn too_many(&self, message: &str) -> Problem {
        Problem {
            code: Code::TooManyNodes,
            at: At::Place(self.place),
            message: message.to_owned(),
            help: "remove aliases that multiply each other, or split the config over several fleets"
                .to_owned(),
        }
    }
}
