//! Keeps the house as `src/lib.rs` describes it: modules use only what is above them, only `driver` and
//! `cli` touch the operating system, files stay readable. Works on text: no comments, no strings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What only [`OUTSIDE`] may name: clock, entropy, random order, files, processes, sockets.
const FORBIDDEN: [&str; 15] = [
    "std::time::Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "mio",
    "rustix",
    "getrandom",
];
/// Modules that may.
const OUTSIDE: [&str; 3] = ["driver", "cli", "main"];
/// The one file with unsafe code, which says there why.
const UNSAFE: &str = "driver/resident.rs";
const LINES_MAX: usize = 700;

/// Module → number of its layer.
type Layers = BTreeMap<String, u32>;

#[test]
fn the_tree_is_tidy() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = layers(&fs::read_to_string(src.join("lib.rs")).unwrap());
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(layers.len() > 10 && files.len() > layers.len(), "nothing to look at: {layers:?} {files:?}");
    let mut problems = Vec::new();
    for file in files {
        let name = file.strip_prefix(&src).unwrap();
        let found = scan(&layers, name, &fs::read_to_string(&file).unwrap());
        problems.extend(found.into_iter().map(|problem| format!("src/{}: {problem}", name.display())));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => collect(&entry, files),
            false if entry.extension().is_some_and(|ext| ext == "rs") => files.push(entry),
            false => {}
        }
    }
}

/// `// layer N: …`, then the modules of that layer.
fn layers(lib: &str) -> Layers {
    let mut layers = Layers::new();
    let mut layer = 0;
    for line in lib.lines() {
        if let Some(text) = line.strip_prefix("// layer ") {
            layer = text.split(':').next().unwrap().parse().expect("a layer's number");
        }
        if let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            layers.insert(name.into(), layer);
        }
    }
    layers
}

/// Everything that is wrong with one file; `file` is its path within `src`.
fn scan(layers: &Layers, file: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let stem = file.with_extension("");
    let modules: Vec<&str> =
        stem.iter().filter_map(|part| part.to_str()).filter(|&part| part != "mod").collect();
    let module = modules[0];
    let code = tokens(text);
    let is_test = modules.last() == Some(&"tests");
    let shipped = if is_test { Vec::new() } else { without_tests(&code) };
    for path in paths(&shipped) {
        let above = path.iter().take_while(|part| *part == "super").count();
        let used = match path[0].as_str() {
            "crate" => path.get(1),
            "super" if above >= modules.len() => path.get(above),
            _ => None,
        };
        let Some((used, &theirs)) = used.and_then(|used| layers.get_key_value(used)) else { continue };
        let ours = layers.get(module).copied().unwrap_or(u32::MAX);
        if used != module && theirs >= ours {
            problems.push(format!("{module} (layer {ours}) uses {used} (layer {theirs})"));
        }
    }
    if !OUTSIDE.contains(&module) {
        for path in paths(&code).iter().map(|path| format!("::{}::", path.join("::"))) {
            let named = FORBIDDEN.iter().filter(|word| path.contains(&format!("::{word}::")));
            problems.extend(named.map(|word| format!("names {word}")));
        }
    }
    if code.iter().any(|token| token == "unsafe") && file != Path::new(UNSAFE) {
        problems.push("has unsafe code".into());
    }
    if text.lines().count() > LINES_MAX {
        problems.push(format!("has more than {LINES_MAX} lines"));
    }
    problems
}

/// The words, `::` and single other characters of the code; comments, strings and characters left out.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let hashes = rest[word..].bytes().take_while(|&b| b == b'#').count();
        let raw = matches!(&rest[..word], "r" | "br" | "cr") && rest[word + hashes..].starts_with('"');
        let len = if raw {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = word + hashes + 1;
            rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len())
        } else if word > 0 {
            tokens.push(rest[..word].into());
            word
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            quoted(rest, '"')
        } else if rest.starts_with("'\\") || (first == '\'' && rest.chars().nth(2) == Some('\'')) {
            quoted(rest, '\'')
        } else {
            let len = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push(rest[..len].into());
            }
            len
        };
        rest = &rest[len..];
    }
    tokens
}

/// The length of a string or character that `text` starts with.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a comment that `text` starts with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// `code` without the items behind `#[cfg(test)]`.
fn without_tests(code: &[String]) -> Vec<String> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if !code[at..].iter().take(marker.len()).eq(&marker) {
            kept.push(code[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        while at < code.len() {
            at += 1;
            match code[at - 1].as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                ";" => {}
                _ => continue,
            }
            if depth == 0 {
                break;
            }
        }
    }
    kept
}

/// Every path in the code, single words included, the groups of `use` multiplied out.
fn paths(code: &[String]) -> Vec<Vec<String>> {
    let is_word = |token: &String| token.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut paths = Vec::new();
    // What stands before each open group; an ordinary block starts with nothing.
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut joined = false;
    for token in code {
        if is_word(token) && (joined || path.is_empty()) {
            path.push(token.clone());
        } else if token == "{" {
            groups.push(if joined { core::mem::take(&mut path) } else { Vec::new() });
            paths.extend((!path.is_empty()).then(|| core::mem::take(&mut path)));
            path = groups.last().cloned().unwrap_or_default();
        } else if token != "::" {
            paths.extend((!path.is_empty()).then(|| core::mem::take(&mut path)));
            if token == "}" {
                groups.pop();
            }
            path = if token == "," { groups.last().cloned().unwrap_or_default() } else { Vec::new() };
            path.extend(is_word(token).then(|| token.clone()));
        }
        joined = token == "::" || (matches!(token.as_str(), "{" | ",") && !path.is_empty());
    }
    paths.push(path);
    paths.retain(|path| !path.is_empty());
    paths
}

fn problems(file: &str, text: &str) -> Vec<String> {
    let layers = layers(
        "// layer 1: all\npub mod rng;\npub mod time;\n// layer 2: b\npub mod wire;\n// layer 3: c\npub mod check;\npub mod membership;\n// layer 4: d\npub mod view;\n",
    );
    scan(&layers, Path::new(file), text)
}

#[test]
fn paths_that_point_down_the_table_are_found() {
    for bad in [
        "use crate::view::Instance;",
        "use crate::{rng::Rng, view::Instance};",
        "use crate::{time::{Instant, earliest}, view};",
        "fn f() { let x = crate::view::f(1); }",
        "fn f(v: &'a crate::membership::Member) {}",
        "fn f() { super::view::f() }",
        "use crate::wire::{A, B}; use crate::view;",
    ] {
        assert_eq!(problems("check/mod.rs", bad).len(), 1, "{bad}");
    }
    assert_eq!(problems("check/http.rs", "use super::super::view::X;").len(), 1);
    assert_eq!(problems("time.rs", "use crate::wire::X;").len(), 1);
    assert_eq!(
        problems("time.rs", "use crate::rng::Rng;").len(),
        1,
        "modules of one layer do not know each other"
    );
}

#[test]
fn paths_that_may_be_are_not_found() {
    for good in [
        "use crate::{wire::{A, B}, check::App}; use crate::time::Instant;",
        "// use crate::view;\n/* crate::view /* */ crate::view */ const A: &str = \"crate::view\";",
        "#[cfg(test)] mod tests { use crate::view::X; fn f() {} }",
        "const Q: char = '\"'; const R: &str = r#\"crate::view \" \"#;",
        "use super::view::Own;",
    ] {
        assert_eq!(problems("check/http.rs", good), [""; 0], "{good}");
    }
    assert_eq!(problems("check/http/tests.rs", "use crate::view;"), [""; 0]);
    assert_eq!(problems("check/mod.rs", "#[cfg(test)] mod tests; use crate::view;").len(), 1);
}

#[test]
fn what_only_the_driver_may_name_is_found() {
    for word in FORBIDDEN {
        assert_eq!(problems("wire/mod.rs", &format!("fn f() {{ let x = {word}::g(); }}")).len(), 1, "{word}");
        assert_eq!(problems("driver/mod.rs", &format!("use {word};")), [""; 0]);
        assert_eq!(problems("cli/mod.rs", &format!("use {word};")), [""; 0]);
    }
    assert_eq!(problems("wire/mod.rs", "use std::{fmt, fs::File, time::{Duration, Instant}};").len(), 2);
    assert_eq!(problems("wire/mod.rs", "#[cfg(test)] mod tests { use std::fs; }").len(), 1);
    assert_eq!(
        problems("wire/mod.rs", "use crate::time::Instant; let mios = HashMapped; // HashMap"),
        [""; 0]
    );
}

#[test]
fn unsafe_code_and_long_files_are_found() {
    assert_eq!(problems("driver/mod.rs", "#![forbid(unsafe_code)] fn f() { unsafe { g() } }").len(), 1);
    assert_eq!(problems("driver/mod.rs", &"\n".repeat(LINES_MAX + 1)).len(), 1);
    assert_eq!(problems("driver/mod.rs", &"\n".repeat(LINES_MAX)), [""; 0]);
}
