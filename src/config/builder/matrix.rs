//! `matrix`: one entry that is several builders, one for each combination of its axes' values.

use super::{BuilderConfig, RawBuilder};
use crate::config::context::Context;
use crate::config::fault::{Code, Fault};
use crate::config::leaf::{BuilderName, PropertyName};
use crate::config::tree::Path;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Builders that one entry may become.
const MOST: usize = 256;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "AxisValue")]
pub(crate) enum RawAxisValue {
    Text(String),
    Number(i64),
}

/// Axis → its values.
pub(crate) type RawMatrix = IndexMap<PropertyName, Vec<RawAxisValue>>;

impl RawAxisValue {
    /// As it stands in a builder's name.
    fn label(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Number(number) => (*number).into(),
        }
    }
}

impl RawBuilder {
    /// What one builder itself says of its axes; `path` is its own place.
    pub(super) fn check_matrix(&self, cx: &mut Context<'_>, path: &Path) {
        let Some(matrix) = &self.matrix else { return };
        let path = path.join("matrix");
        if matrix.is_empty() && cx.is_clean(&path) {
            let message = format!("{} has no axis", cx.place(&path));
            cx.push(Fault::new(Code::Empty, cx.key(&path), message).label("such as `cc: [gcc12, gcc13]`"));
        }
        for (axis, values) in matrix {
            check_axis(axis, values, cx, &path.join(axis));
        }
        let count = matrix.values().fold(1, |count: usize, values| count.saturating_mul(values.len().max(1)));
        if count > MOST {
            let axes: Vec<String> = matrix.iter().map(|(axis, v)| format!("{axis} {}", v.len())).collect();
            let message = format!("{} makes {count} builders", cx.place(&path));
            let fault = Fault::new(Code::OutOfRange, cx.key(&path), message);
            cx.push(
                fault
                    .label(format!("at most {MOST}"))
                    .note(format!("values of each axis: {}", axes.join(", "))),
            );
        }
    }
}

fn check_axis(axis: &PropertyName, values: &[RawAxisValue], cx: &mut Context<'_>, path: &Path) {
    if values.is_empty() && cx.is_clean(path) {
        let message = format!("axis `{axis}` has no value in {}", cx.place(path));
        cx.push(Fault::new(Code::Empty, cx.key(path), message));
    }
    let labels: Vec<String> = values.iter().map(RawAxisValue::label).collect();
    for (i, label) in labels.iter().enumerate() {
        if let Err(why) = rouse_model::check_name(label) {
            let message =
                format!("`{label}` is no value for axis `{axis}`, which stands in the builder's name: {why}");
            cx.push(Fault::new(Code::BadName, cx.item(path, i), message));
        }
        if let Some(first) = labels[..i].iter().position(|other| other == label) {
            let message = format!("axis `{axis}` has `{label}` twice");
            let first = cx.item(path, first);
            cx.push(Fault::new(Code::DuplicateName, cx.item(path, i), message).related(first, "first here"));
        }
    }
}

/// The builders that an entry stands for: itself, or one for each combination, the last axis changing first.
pub(crate) fn expand(
    name: &BuilderName,
    builder: BuilderConfig,
    matrix: Option<&RawMatrix>,
) -> Vec<(BuilderName, BuilderConfig)> {
    let Some(matrix) = matrix.filter(|matrix| !matrix.is_empty()) else {
        return vec![(name.clone(), builder)];
    };
    let mut combinations: Vec<Vec<(&PropertyName, &RawAxisValue)>> = vec![vec![]];
    for (axis, values) in matrix {
        let longer = combinations.iter().flat_map(|so_far| {
            values.iter().map(move |value| so_far.iter().copied().chain([(axis, value)]).collect::<Vec<_>>())
        });
        combinations = longer.take(MOST).collect();
    }
    let one = |combination: Vec<(&PropertyName, &RawAxisValue)>| {
        let labels: Vec<String> = combination.iter().map(|(_, value)| value.label()).collect();
        let matrix = combination.into_iter().map(|(axis, value)| (axis.clone(), value.value())).collect();
        (name.of_matrix(&labels), BuilderConfig { matrix, ..builder.clone() })
    };
    combinations.into_iter().map(one).collect()
}
