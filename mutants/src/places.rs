//! Where in a file its changes are, and what each of them puts there.
//!
//! cargo-mutants says where a change begins; the rest (how far the operands reach, where a body opens) is read from the syntax.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::{LineColumn, Span};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Arm, BinOp, Block, Expr, ExprBinary, ExprMatch, ExprStruct, ExprUnary, ImplItemFn, ItemFn, TraitItemFn,
};

use crate::list::{Change, Kind};

/// A piece of the source that some changes are of.
#[derive(Debug)]
pub struct Place {
    /// In bytes.
    pub range: Range<usize>,
    pub shape: Shape,
    pub changes: Vec<Alternative>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// An expression, which another stands in for.
    Expression,
    /// The body of a function, which returns at once.
    Body,
    /// The guard of a match arm, which then never matches; empty, behind the pattern, where the arm has none.
    Arm,
    /// A `match`, of whose arms without a guard some are deleted. It stays as it is: what has no other arm for all the rest is not complete
    /// any more, which the compiler says of the whole.
    Match,
}

/// What stands there under a change.
#[derive(Debug)]
pub struct Alternative {
    pub number: u32,
    pub text: String,
}

/// What there is in one file. A change that is not among it has no place.
#[derive(Debug)]
pub struct Found {
    /// Outer ones before those within them.
    pub places: Vec<Place>,
    /// Changes that no compiler would take: an `||` beside a `let`.
    pub impossible: Vec<u32>,
}

pub fn find(text: &str, changes: &[&Change]) -> Result<Found> {
    let file = syn::parse_file(text).context("it is not Rust")?;
    let mut by_start: HashMap<(usize, usize), Vec<&Change>> = HashMap::new();
    for change in changes {
        by_start.entry((change.line, change.column)).or_default().push(change);
    }
    let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let found = Found { places: Vec::new(), impossible: Vec::new() };
    let mut finder = Finder { text, lines, by_start, found };
    finder.visit_file(&file);
    let mut found = finder.found;
    // Stable: of two that reach equally far, the one found first is the outer one.
    found.places.sort_by_key(|place| (place.range.start, std::cmp::Reverse(place.range.end)));
    Ok(found)
}

struct Finder<'a> {
    text: &'a str,
    lines: Vec<usize>,
    by_start: HashMap<(usize, usize), Vec<&'a Change>>,
    found: Found,
}

impl Finder<'_> {
    fn offset(&self, at: LineColumn) -> usize {
        let start = self.lines.get(at.line - 1).copied().unwrap_or(self.text.len());
        let rest = &self.text[start..];
        start + rest.char_indices().nth(at.column).map_or(rest.len(), |(offset, _)| offset)
    }

    fn range(&self, span: Span) -> Range<usize> {
        self.offset(span.start())..self.offset(span.end())
    }

    /// The changes of one kind that begin here.
    fn at(&self, span: Span, kind: Kind) -> Vec<(u32, String)> {
        let start = (span.start().line, span.start().column + 1);
        let here = self.by_start.get(&start).into_iter().flatten().filter(|change| change.kind == kind);
        here.map(|change| (change.number, change.replacement.clone())).collect()
    }

    fn put(&mut self, range: Range<usize>, shape: Shape, changes: Vec<(u32, String)>) {
        if !changes.is_empty() {
            let changes = changes.into_iter().map(|(number, text)| Alternative { number, text }).collect();
            self.found.places.push(Place { range, shape, changes });
        }
    }

    fn body(&mut self, block: &Block) {
        let Some(first) = block.stmts.first() else { return };
        let changes = self.at(first.span(), Kind::Body);
        let early = changes.into_iter().map(|(number, value)| (number, format!("return {value}")));
        self.put(self.range(block.span()), Shape::Body, early.collect());
    }
}

/// Whether it binds names for what follows, so that it cannot stand within another expression.
fn binds(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => {
            matches!(binary.op, BinOp::And(_)) && (binds(&binary.left) || binds(&binary.right))
        }
        _ => false,
    }
}

impl<'a> Visit<'a> for Finder<'_> {
    fn visit_item_fn(&mut self, function: &'a ItemFn) {
        self.body(&function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a ImplItemFn) {
        self.body(&function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'a TraitItemFn) {
        if let Some(block) = &function.default {
            self.body(block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_expr_binary(&mut self, binary: &'a ExprBinary) {
        let changes = self.at(binary.op.span(), Kind::Binary);
        if binds(&binary.left) || binds(&binary.right) {
            self.found.impossible.extend(changes.into_iter().map(|(number, _)| number));
        } else {
            let (left, right) = (self.range(binary.left.span()), self.range(binary.right.span()));
            let all = left.start..right.end;
            let (left, right) = (&self.text[left], &self.text[right]);
            let changes =
                changes.into_iter().map(|(number, operator)| (number, format!("{left} {operator} {right}")));
            self.put(all, Shape::Expression, changes.collect());
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'a ExprUnary) {
        let operand = &self.text[self.range(unary.expr.span())];
        let changes = self.at(unary.op.span(), Kind::Unary);
        let changes = changes.into_iter().map(|(number, operator)| (number, format!("{operator}{operand}")));
        self.put(self.range(unary.span()), Shape::Expression, changes.collect());
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_match(&mut self, all: &'a ExprMatch) {
        let bare = all.arms.iter().filter(|arm| arm.guard.is_none());
        let deleted = bare.flat_map(|arm| self.at(arm.span(), Kind::Arm)).collect();
        self.put(self.range(all.span()), Shape::Match, deleted);
        visit::visit_expr_match(self, all);
    }

    fn visit_arm(&mut self, arm: &'a Arm) {
        let guard = arm.guard.as_ref().map(|(_, guard)| guard);
        let pattern = self.range(arm.pat.span());
        let range = guard.map_or(pattern.end..pattern.end, |guard| self.range(guard.span()));
        let deleted = self.at(arm.span(), Kind::Arm);
        if guard.is_none_or(|guard| !binds(guard)) {
            self.put(range.clone(), Shape::Arm, deleted);
        }
        if let Some(guard) = guard.filter(|guard| !binds(guard)) {
            self.put(range, Shape::Expression, self.at(guard.span(), Kind::Guard));
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, literal: &'a ExprStruct) {
        let all = self.range(literal.span());
        let mut changes = Vec::new();
        for field in &literal.fields {
            let range = self.range(field.span());
            let rest = self.text[range.end..all.end].trim_start();
            let rest = rest.strip_prefix(',').unwrap_or(rest);
            let without = format!("{}{rest}", &self.text[all.start..range.start]);
            changes.extend(
                self.at(field.span(), Kind::Field).into_iter().map(|(number, _)| (number, without.clone())),
            );
        }
        self.put(all, Shape::Expression, changes);
        visit::visit_expr_struct(self, literal);
    }
}
