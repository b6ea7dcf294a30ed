//! Bars: how much, beside how much the others have.

use super::style;

const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// A bar of `value` out of `most`, at most `width` characters. A value above zero always shows.
pub(super) fn bar(value: u64, most: u64, width: usize) -> String {
    draw(value, most, width, style::has_blocks())
}

fn draw(value: u64, most: u64, width: usize, blocks: bool) -> String {
    if value == 0 || most == 0 {
        return String::new();
    }
    let share = value.min(most) as f64 / most as f64;
    let eighths = ((share * width as f64 * 8.0).round() as usize).max(1);
    if !blocks {
        return "#".repeat((eighths + 4) / 8).chars().chain((eighths < 4).then_some('.')).collect();
    }
    let mut text = "█".repeat(eighths / 8);
    text.extend((!eighths.is_multiple_of(8)).then(|| EIGHTHS[eighths % 8]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bar_grows_with_its_value_and_never_out_of_its_width(a: u32, b: u32, width in 1usize..60, blocks: bool) {
            let (small, large) = (u64::from(a.min(b)), u64::from(a.max(b)));
            let [s, l] = [small, large].map(|v| draw(v, large, width, blocks).chars().count());
            prop_assert!(s <= l && l <= width);
            prop_assert_eq!(l == 0, large == 0);
            prop_assert_eq!(s == 0, small == 0);
        }
    }
}
