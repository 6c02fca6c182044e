//! Lines for findings that have only a path, where the text is at hand: a data plane with a file compiles what it judged
//! before, and control shows a nack about a text that it stored.

use crate::diagnostic::Diagnostic;
use crate::judge;
use crate::node::{NodeId, Tree, Value, path_step};
use crate::parse;
use crate::reporter::{Lines, secret_places};

/// Adds line, column and source line to every diagnostic that has a path and no line. A text that does not hold the path
/// gives the place of what is nearest above it; one that cannot be read changes nothing.
pub fn locate(text: &[u8], diagnostics: &mut [Diagnostic]) {
    if diagnostics.iter().all(|diagnostic| diagnostic.line.is_some() || diagnostic.path.is_empty()) {
        return;
    }
    let mut tree = Tree::default();
    let Ok(text) = judge::readable(text) else { return };
    let Ok((root, _)) = parse::parse(text, &mut tree) else { return };
    let lines = Lines::new(text);
    let masks = secret_places(&tree);
    for diagnostic in diagnostics.iter_mut().filter(|d| d.line.is_none() && !d.path.is_empty()) {
        let place = tree.place(find(&tree, root, &diagnostic.path));
        if place.line > 0 {
            diagnostic.line = Some(place.line);
            diagnostic.column = Some(place.column);
            diagnostic.source_line = lines.shown(place.line, place.column, &masks);
        }
    }
}

/// The value at a path, or what is nearest above it.
fn find(tree: &Tree, root: NodeId, path: &str) -> NodeId {
    let found = descend(tree, root, path);
    // The singular form has the same meaning under another path.
    match path.strip_prefix("upstreams.default") {
        Some(rest) if found == root || tree.path(found) == "upstreams" => {
            let singular = descend(tree, root, &format!("upstream{rest}"));
            if singular == root { found } else { singular }
        }
        _ => found,
    }
}

fn descend(tree: &Tree, mut at: NodeId, mut rest: &str) -> NodeId {
    while !rest.is_empty() {
        let next = match tree.value(at) {
            Value::Map(entries) => entries.iter().find_map(|entry| {
                let step = path_step(&entry.key);
                // Header names have no case.
                let start = rest.get(..step.len()).filter(|start| start.eq_ignore_ascii_case(&step))?;
                let after = rest.get(start.len()..)?;
                (after.is_empty() || after.starts_with(['.', '['])).then_some((entry.value, after))
            }),
            Value::Seq(items) => rest.strip_prefix('[').and_then(|rest| {
                let (index, after) = rest.split_once(']')?;
                Some((*items.get(index.parse::<usize>().ok()?)?, after))
            }),
            _ => None,
        };
        let Some((found, after)) = next else { return at };
        at = found;
        rest = after.strip_prefix('.').unwrap_or(after);
    }
    at
}
