//! Tables that fit: columns give way in the order of their importance, the least first.
//!
//! Pure. Invariant: where the view has a width, no line is wider, unless even the most important column alone is.

use console::{measure_text_width, truncate_str};

use super::{Paint, View};

/// Spaces between two columns.
const GAP: usize = 2;
/// Columns of this importance are cut, not left out, as long as that helps.
const KEPT: u8 = 7;

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    /// Narrower than this it says nothing any more and is left out.
    least: usize,
    /// Columns of lower importance give way first.
    importance: u8,
    right: bool,
    /// Of any length: it gives way before other columns do, and takes what they leave.
    elastic: bool,
}

/// One cell: a text of one line and what it means.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

/// Rows under titles.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column of text.
pub(crate) const fn text(title: &'static str, least: usize, importance: u8) -> Column {
    Column {
        title,
        least,
        importance,
        right: false,
        elastic: false,
    }
}

/// A column of short texts that say nothing when cut, such as times: whole or not at all.
pub(crate) const fn whole(title: &'static str, importance: u8) -> Column {
    text(title, usize::MAX, importance)
}

/// A column of text of any length, such as a reason.
pub(crate) const fn prose(title: &'static str, least: usize, importance: u8) -> Column {
    Column {
        title,
        least,
        importance,
        right: false,
        elastic: true,
    }
}

/// A column of numbers; never cut, since a cut number is another number.
pub(crate) const fn number(title: &'static str, importance: u8) -> Column {
    Column {
        title,
        least: usize::MAX,
        importance,
        right: true,
        elastic: false,
    }
}

/// A cell with a meaning.
pub(crate) fn cell(paint: Paint, text: impl Into<String>) -> Cell {
    let text: String = text.into();
    // A control character from a host or person must not reach the terminal.
    let text = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    Cell { text, paint }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        cell(Paint::Plain, text)
    }
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with a cell for each column.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// Titles and rows, each line ended by a line feed. Columns that are empty in every row are left out.
    pub(crate) fn render(&self, view: &View) -> String {
        let shown = self.fit(view.width.unwrap_or(usize::MAX));
        let titles: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| cell(Paint::Faint, column.title))
            .collect();
        let lines = std::iter::once(&titles).chain(&self.rows);
        lines.map(|cells| self.line(view, &shown, cells)).collect()
    }

    fn line(&self, view: &View, shown: &[(usize, usize)], cells: &[Cell]) -> String {
        let mut line = String::new();
        for (place, &(index, width)) in shown.iter().enumerate() {
            let Some(cell) = cells.get(index) else {
                continue;
            };
            let text = truncate_str(&cell.text, width, "…");
            let pad = " ".repeat(width - measure_text_width(&text));
            let painted = view.paint(cell.paint, &text);
            if self.columns.get(index).is_some_and(|column| column.right) {
                line.push_str(&pad);
                line.push_str(&painted);
            } else {
                line.push_str(&painted);
                line.push_str(&pad);
            }
            if place + 1 < shown.len() {
                line.push_str(&" ".repeat(GAP));
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }

    /// The columns that are shown with their widths, in order.
    ///
    /// Prose is shortened first, then the less important columns go, one after the other; only then are the important
    /// ones cut, so that a narrow table says few things whole rather than everything in pieces.
    fn fit(&self, width: usize) -> Vec<(usize, usize)> {
        let natural = self.natural();
        let mut shown = natural.clone();
        let mut order: Vec<usize> = shown.iter().map(|(index, _)| *index).collect();
        order.sort_by_key(|index| self.columns[*index].importance);
        let elastic = |index: &&usize| self.columns[**index].elastic;
        let minor = |index: &&usize| self.columns[**index].importance < KEPT;
        for index in order.iter().filter(elastic) {
            self.shrink(&mut shown, *index, width);
        }
        for index in order.iter().filter(minor) {
            self.shrink(&mut shown, *index, width);
            if excess(&shown, width) > 0 {
                shown.retain(|(other, _)| other != index);
            }
        }
        for index in &order {
            self.shrink(&mut shown, *index, width);
        }
        for index in &order {
            if excess(&shown, width) > 0 && shown.len() > 1 {
                shown.retain(|(other, _)| other != index);
            }
        }
        self.give_back(&mut shown, &natural, width);
        shown
    }

    /// Makes one column as narrow as needed, and no narrower than it can be.
    fn shrink(&self, shown: &mut [(usize, usize)], index: usize, width: usize) {
        let excess = excess(shown, width);
        let least = self.columns[index].least;
        if let Some((_, now)) = shown.iter_mut().find(|(other, _)| *other == index) {
            *now = now.saturating_sub(excess).max(least.min(*now));
        }
    }

    /// What the columns that went have left is for those that were cut, the most important first.
    fn give_back(&self, shown: &mut [(usize, usize)], natural: &[(usize, usize)], width: usize) {
        let mut order: Vec<usize> = (0..shown.len()).collect();
        order.sort_by_key(|place| std::cmp::Reverse(self.columns[shown[*place].0].importance));
        for place in order {
            let used = used(shown);
            let wanted = natural.iter().find(|(index, _)| *index == shown[place].0);
            let missing = wanted.map_or(0, |(_, wanted)| wanted.saturating_sub(shown[place].1));
            shown[place].1 += missing.min(width.saturating_sub(used));
        }
    }

    /// The width that each column would like; a column that is empty in every row likes none.
    fn natural(&self) -> Vec<(usize, usize)> {
        let widest = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells
                .map(|cell| measure_text_width(&cell.text))
                .max()
                .unwrap_or(0)
        };
        (self.columns.iter().enumerate())
            .map(|(index, column)| (index, column, widest(index)))
            .filter(|(_, _, widest)| *widest > 0 || self.rows.is_empty())
            .map(|(index, column, widest)| (index, widest.max(measure_text_width(column.title))))
            .collect()
    }
}

fn excess(shown: &[(usize, usize)], width: usize) -> usize {
    used(shown).saturating_sub(width)
}

fn used(shown: &[(usize, usize)]) -> usize {
    let cells: usize = shown.iter().map(|(_, width)| width).sum();
    cells + GAP * shown.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            text("NAME", 6, 9),
            prose("DETAIL", 8, 1),
            number("TRIES", 5),
        ]);
        table.row([
            "web-1".into(),
            "the check page did not pass".into(),
            "3".into(),
        ]);
        table.row(["web-with-a-long-name".into(), "fine".into(), "12".into()]);
        table
    }

    fn view(width: usize) -> View {
        View {
            width: Some(width),
            color: false,
            now: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn no_line_is_wider_than_the_view() {
        for width in 20..100 {
            for line in table().render(&view(width)).lines() {
                assert!(measure_text_width(line) <= width, "{width}: {line:?}");
            }
        }
    }

    #[test]
    fn the_least_important_column_gives_way_first() {
        let shown = table().render(&view(40));
        assert!(shown.contains("web-with-a-long-name"), "{shown}");
        assert!(shown.contains('…') && shown.contains("12"), "{shown}");
        let narrow = table().render(&view(20));
        assert!(!narrow.contains("DETAIL"), "{narrow}");
    }

    #[test]
    fn a_number_is_shown_whole_or_not_at_all() {
        let narrow = table().render(&view(8));
        assert!(
            !narrow.contains("TRIES") && !narrow.contains("12"),
            "{narrow}"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new([text("NAME", 4, 1)]);
        table.row(["a\u{1b}[31mb\nc".into()]);
        let shown = table.render(&view(80));
        assert!(
            !shown.contains('\u{1b}') && shown.lines().count() == 2,
            "{shown:?}"
        );
    }
}
