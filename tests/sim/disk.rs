//! A machine's disk, as far as the state file goes, and how it may fail.

use std::collections::VecDeque;

use picored::agent::state::Saved;

/// Older contents that a restore from a backup may bring back.
const OLDER_MAX: usize = 8;

/// What a restarted process finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The state file as it was written last.
    Kept,
    /// Nothing: a reinstalled machine.
    Lost,
    /// An older one: a restored backup.
    Older,
    /// Half of the last one, and the one before it.
    Damaged,
}

#[derive(Default)]
pub struct Disk {
    current: Option<String>,
    /// Kept as `.previous`.
    previous: Option<String>,
    older: VecDeque<String>,
    /// Full, or mounted read-only.
    pub broken: bool,
    /// It was, at some time.
    pub failed: bool,
    pub writes: u64,
}

impl Disk {
    pub fn write(&mut self, text: String) -> Result<(), String> {
        if self.broken {
            self.failed = true;
            return Err("no space left on device".to_string());
        }
        self.writes += 1;
        self.previous = self.current.replace(text.clone());
        self.older.push_back(text);
        if self.older.len() > OLDER_MAX {
            self.older.pop_front();
        }
        Ok(())
    }

    /// What the driver makes of the files at a start.
    pub fn read(&mut self, memory: Memory) -> Option<Saved> {
        match memory {
            Memory::Kept => {}
            Memory::Lost => (self.current, self.previous) = (None, None),
            Memory::Older => self.current = self.older.front().cloned(),
            Memory::Damaged => {
                self.current = self.current.take().map(|text| text[..text.len() / 2].to_string());
            }
        }
        if let Some(saved) = self.current.as_deref().and_then(|text| Saved::parse(text).ok()) {
            return Some(saved);
        }
        self.current = self.previous.clone();
        let saved = Saved::parse(self.previous.as_deref()?);
        Some(saved.expect("what was written whole can be read"))
    }

    /// Whether the state file holds what the handler of the common records told of `app` last. What another one told,
    /// which keeps a table of this node's own, says nothing of them.
    pub fn knows_outside(&self, app: &str) -> bool {
        let saved = self.text().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let handlers = saved.as_ref().and_then(|saved| saved["delivery"]["handlers"].as_array());
        let common = handlers.into_iter().flatten().filter(|handler| handler["name"] == "dns");
        let jobs = common.filter_map(|handler| handler["jobs"].as_array()).flatten();
        jobs.filter(|job| job["app"] == app).any(|job| job["outside"].is_array())
    }

    pub fn text(&self) -> Option<&str> {
        self.current.as_deref()
    }
}
