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

/// How many of at most `width` characters each part gets, beside a sum of parts of `most`. A part above zero gets one.
pub(super) fn diffstat(parts: [u64; 3], most: u64, width: usize) -> [usize; 3] {
    let share = |n: u64| if n == 0 { 0 } else { ((n as f64 * width as f64 / most.max(1) as f64).round() as usize).clamp(1, width) };
    let mut shares = parts.map(share);
    while shares.iter().sum::<usize>() > width {
        if let Some(widest) = shares.iter_mut().max() {
            *widest -= 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_part_of_a_diffstat_shows_and_none_is_wider_than_the_whole(parts: [u32; 3], more: u32, width in 3usize..40) {
            let parts = parts.map(u64::from);
            let shares = diffstat(parts, parts.iter().sum::<u64>() + u64::from(more), width);
            prop_assert!(shares.iter().sum::<usize>() <= width);
            for (part, share) in parts.iter().zip(shares) { prop_assert_eq!(*part == 0, share == 0); }
        }

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
