//! `$((…))`, `((…))`, `$[…]` and the index of an array.

use super::{Frame, Item, Lexer, Step};

impl Lexer {
    pub(super) fn in_arithmetic(&mut self, offset: usize, c: char, close: char) -> Step {
        let open = if close == ')' { '(' } else { '[' };
        match c {
            '\\' => return self.backslash(false),
            '"' => self.stack.push(Frame::Double { opened: offset }),
            '\'' | '#' if c == '\'' || close == ')' && self.after_space() => {
                self.doubt(offset, "shells differ on quotes and `#` within arithmetic");
            }
            '$' => return self.dollar(offset),
            '`' => return self.backticks(offset),
            ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' if close == ']' => {
                self.doubt(offset, "only some shells know `[…]` as an array's index or as arithmetic");
            }
            c if c == open => self.deepen(1),
            c if c == close => {
                let depth = self.deepen_down();
                if depth == 1 && close == ')' && self.peek(1) != Some(')') {
                    self.doubt(offset, "`((` that is not closed by `))` is no arithmetic");
                }
                if depth == 0 {
                    self.stack.pop();
                }
            }
            _ => {}
        }
        self.at += 1;
        Ok(())
    }

    fn after_space(&self) -> bool {
        self.at > 0 && matches!(self.items[self.at - 1].1, Item::Char(c) if c.is_whitespace())
    }

    fn deepen(&mut self, by: usize) {
        if let Some(Frame::Arithmetic { depth, .. }) = self.stack.last_mut() {
            *depth += by;
        }
    }

    fn deepen_down(&mut self) -> usize {
        match self.stack.last_mut() {
            Some(Frame::Arithmetic { depth, .. }) => {
                *depth = depth.saturating_sub(1);
                *depth
            }
            _ => 0,
        }
    }
}
