//! Rows of the ledger that any program, or a broken disk, may have left.

use crate::message;
use vgpud::fuzzing::{Cell, Row};

/// Rows as texts: the table's name, then `column=value` a line; an empty line ends a row. What is no
/// number and not NULL is a text.
pub fn ledger_rows(data: &[u8]) {
    let text = crate::text(data);
    let rows: Vec<Row> = text.split("\n\n").take(16).filter_map(row).collect();
    let Some(reading) = vgpud::fuzzing::ledger(&rows) else { return };
    match reading.state {
        Ok(state) => {
            for slice in state.slices.values() {
                assert_eq!(slice.id.to_string().parse(), Ok(slice.id));
                if let Some(memory) = slice.memory {
                    assert_eq!(memory.to_string().parse(), Ok(memory));
                }
            }
            let rows = reading.content.iter().flat_map(|content| &content.tables["slices"]);
            for (row, slice) in rows.zip(state.slices.values()) {
                assert_eq!(row["phase"], slice.phase.word(), "what queries see is not what vgpud sees");
            }
            let again = reading.written_again.and_then(Result::ok);
            assert_eq!(Some(state), again, "what was read is written otherwise");
        }
        Err(error) => message::check_error(&error, ""),
    }
    for lease in reading.history {
        let slice = lease.position.slice;
        assert_eq!(slice.to_string().parse(), Ok(slice));
    }
    for slice in reading.events.iter().filter_map(|event| event.slice) {
        assert_eq!(slice.to_string().parse(), Ok(slice));
    }
    for error in reading.refused {
        message::check_error(&error, "");
    }
}

fn row(text: &str) -> Option<Row> {
    let mut lines = text.lines();
    let table = lines.next()?.to_owned();
    let columns = lines.filter_map(|line| line.split_once('=')).map(|(column, value)| {
        let value = match (value, value.parse()) {
            ("NULL", _) => Cell::Null,
            (_, Ok(number)) => Cell::Integer(number),
            (text, Err(_)) => Cell::Text(text.to_owned()),
        };
        (column.to_owned(), value)
    });
    Some(Row { table, columns: columns.collect() })
}
