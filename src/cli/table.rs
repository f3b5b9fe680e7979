//! Tables that fit 80 columns, with colour where it is wanted.

use crate::control::text::printable;

/// Tables fit this.
pub const WIDTH: usize = 80;
/// Between two columns.
const GAP: usize = 2;
/// No column is made narrower than this to make room.
const COLUMN_MIN: usize = 8;

/// How serious a cell is; only its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Doubtful,
    Bad,
}

impl Tone {
    /// Of a word that `status` and `members` show.
    pub fn of(word: &str) -> Self {
        match word {
            "alive" | "up" | "ok" | "OK" | "running" | "open" => Self::Good,
            "suspect" | "unknown" | "maint" | "left" | "WARNING" | "backoff" | "stopping" | "leaving" => {
                Self::Doubtful
            }
            "failed" | "down" | "CRITICAL" | "UNKNOWN" | "stands back" => Self::Bad,
            _ => Self::Plain,
        }
    }

    /// `text` in this tone's colour, if `colour` is wanted at all.
    pub fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Good => "32",
            Self::Doubtful => "33",
            Self::Bad => "31",
            Self::Plain => return text.into(),
        };
        if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }
}

/// One cell; what a terminal could obey is escaped.
struct Cell {
    text: String,
    tone: Tone,
}

/// Rows of cells under a header.
pub struct Table {
    columns: usize,
    /// Row by row.
    cells: Vec<Cell>,
}

impl Table {
    pub fn new(header: &[&str]) -> Self {
        let mut table = Self { columns: header.len().max(1), cells: Vec::new() };
        header.iter().for_each(|name| table.toned(name, Tone::Plain));
        table
    }

    /// The next cell, without a colour. A row has as many as the header.
    pub fn cell(&mut self, text: &str) {
        self.toned(text, Tone::Plain);
    }

    /// The next cell, in the colour of `word`.
    pub fn word(&mut self, text: &str, word: &str) {
        self.toned(text, Tone::of(word));
    }

    fn toned(&mut self, text: &str, tone: Tone) {
        self.cells.push(Cell { text: printable(text).into_owned(), tone });
    }

    /// The lines. Cells that are too wide for [`WIDTH`] go on in further lines.
    pub fn render(&self, colour: bool) -> String {
        let widths = self.widths();
        let mut out = String::new();
        for row in self.cells.chunks(self.columns) {
            let cells: Vec<Vec<String>> =
                row.iter().zip(&widths).map(|(cell, &width)| wrap(&cell.text, width)).collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(0);
            for line in 0..height {
                push_line(&mut out, row, &cells, &widths, line, colour);
            }
        }
        out
    }

    /// The widest cells, the widest columns narrowed until all fits.
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.columns];
        for row in self.cells.chunks(self.columns) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.text.chars().count().max(*width);
            }
        }
        let room = WIDTH.saturating_sub(GAP * (self.columns - 1));
        while widths.iter().sum::<usize>() > room {
            match widths.iter_mut().max() {
                Some(width) if *width > COLUMN_MIN => *width -= 1,
                _ => break,
            }
        }
        widths
    }
}

fn push_line(
    out: &mut String,
    row: &[Cell],
    cells: &[Vec<String>],
    widths: &[usize],
    line: usize,
    colour: bool,
) {
    let mut pending = 0; // spaces are written only before something: no line ends in them
    for ((cell, lines), &width) in row.iter().zip(cells).zip(widths) {
        let text = lines.get(line).map_or("", String::as_str);
        if !text.is_empty() {
            out.extend(core::iter::repeat_n(' ', pending));
            out.push_str(&cell.tone.paint(text, colour));
            pending = 0;
        }
        pending += width.saturating_sub(text.chars().count()) + GAP;
    }
    out.push('\n');
}

/// `text` in lines of at most `width` characters, broken after spaces and commas where there are any.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width {
        let head = rest.get(..=width).unwrap_or_default();
        let space = head.iter().rposition(|&c| c == ' ').filter(|&at| at > 0);
        let comma = head.iter().take(width).rposition(|&c| c == ',').map(|at| at + 1);
        let at = space.max(comma).unwrap_or(width);
        let tail = rest.split_off(at);
        lines.push(rest.iter().collect::<String>().trim_end().to_owned());
        rest = tail.into_iter().skip_while(|&c| c == ' ').collect();
    }
    lines.push(rest.into_iter().collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 3]]) -> String {
        let mut table = Table::new(&["NAME", "STATE", "WHY"]);
        for row in rows {
            table.cell(row[0]);
            table.word(row[1], row[1]);
            table.cell(row[2]);
        }
        table.render(false)
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        assert_eq!(
            table(&[["fra1", "alive", "x"], ["amsterdam1", "failed", ""]]),
            "NAME        STATE   WHY\nfra1        alive   x\namsterdam1  failed\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_eighty_and_nothing_is_lost() {
        let name = "n".repeat(128);
        let why = "connection refused, again and again, ".repeat(6);
        let text = table(&[[&name, "up", &why]]);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.matches('n').count(), 128 + why.matches('n').count());
        assert_eq!(text.matches("refused,").count(), 6, "{text}");
    }

    #[test]
    fn text_is_broken_after_a_word_and_else_anywhere() {
        assert_eq!(wrap("aaa bbb ccc", 7), ["aaa bbb", "ccc"]);
        assert_eq!(wrap("10.0.0.1,10.0.0.2", 10), ["10.0.0.1,", "10.0.0.2"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("    x", 2).concat().trim(), "x");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let mut table = Table::new(&["STATE", "X"]);
        table.word("up", "up");
        table.cell("y");
        let coloured = table.render(true);
        assert!(coloured.contains("\x1b[32mup\x1b[0m     y"), "{coloured:?}");
        assert_eq!(coloured.replace("\x1b[32m", "").replace("\x1b[0m", ""), table.render(false));
    }

    #[test]
    fn what_others_say_cannot_move_the_cursor() {
        assert!(!table(&[["a\x1b[2J", "alive", "b\rc"]]).contains(['\x1b', '\r']));
    }
}
