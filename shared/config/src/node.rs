//! A document as a tree of values that know where they stand.
//!
//! The tree lives in one arena and is addressed by index, so that a value can be asked for its path and place long after it
//! was read. It never holds more than the limits allow, whatever its text says.

use std::sync::Arc;

/// A value's index in its [`Tree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

/// Values of one document, or of several parts that together are one.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
    pub(crate) parent: Option<Step>,
}

/// How a value is reached from the one above it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) from: NodeId,
    pub(crate) by: StepBy,
}

#[derive(Debug, Clone)]
pub(crate) enum StepBy {
    /// The value under this key.
    Key(Arc<str>),
    /// The value at this index.
    Index(usize),
}

/// Where a value was written. Lines and columns count from 1, columns in characters; zero means nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) end_line: u32,
    /// The first column behind it.
    pub(crate) end_column: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Its mistake was reported when it was read; whoever meets it stays silent.
    Invalid,
    Null,
    Bool(bool),
    Int(i64),
    /// Its value is of no use to any key; only its type is reported.
    Float,
    Str(Arc<str>),
    Seq(Vec<NodeId>),
    /// In the order of the document; keys are unique.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Arc<str>,
    /// The key's own place.
    pub(crate) key_node: NodeId,
    pub(crate) value: NodeId,
}

/// One step of a path: bare if it cannot be misread, else in quotes.
pub(crate) fn path_step(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if bare {
        return key.to_owned();
    }
    let short: String = key.chars().take(80).collect();
    format!("{short:?}")
}

// === impl Place ===

impl Place {
    pub(crate) fn end(&self) -> (u32, u32) {
        (self.end_line, self.end_column)
    }
}

// === impl Tree ===

impl Tree {
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn push(&mut self, value: Value, place: Place) -> NodeId {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node { value, place, parent: None });
        id
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    pub(crate) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0 as usize)
    }

    pub(crate) fn value(&self, id: NodeId) -> &Value {
        self.get(id).map_or(&Value::Null, |node| &node.value)
    }

    pub(crate) fn place(&self, id: NodeId) -> Place {
        self.get(id).map_or_else(Place::default, |node| node.place)
    }

    /// Turns a node into a list of these.
    pub(crate) fn set_seq(&mut self, id: NodeId, items: Vec<NodeId>) {
        for (index, item) in items.iter().enumerate() {
            if let Some(node) = self.get_mut(*item) {
                node.parent = Some(Step { from: id, by: StepBy::Index(index) });
            }
        }
        if let Some(node) = self.get_mut(id) {
            node.value = Value::Seq(items);
        }
    }

    /// Turns a node into a map of these. A key stands at the path of its value.
    pub(crate) fn set_map(&mut self, id: NodeId, entries: Vec<Entry>) {
        for entry in &entries {
            for child in [entry.key_node, entry.value] {
                if let Some(node) = self.get_mut(child) {
                    node.parent = Some(Step { from: id, by: StepBy::Key(Arc::clone(&entry.key)) });
                }
            }
        }
        if let Some(node) = self.get_mut(id) {
            node.value = Value::Map(entries);
        }
    }

    /// `upstreams.github.args[2]`; empty for the document itself.
    pub(crate) fn path(&self, id: NodeId) -> String {
        let mut steps = Vec::new();
        let mut at = id;
        while let Some(step) = self.get(at).and_then(|node| node.parent.as_ref()) {
            steps.push(&step.by);
            at = step.from;
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            match step {
                StepBy::Key(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&path_step(key));
                }
                StepBy::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}
