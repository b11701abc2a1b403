//! Kubernetes quantities as whole numbers, rounded up as the scheduler rounds them.
//!
//! Grammar: `k8s.io/apimachinery/pkg/api/resource/quantity.go`.

/// A quantity in whole units, rounded up; as much as fits if it is larger, `None` if it is none.
pub(crate) fn units(text: &str) -> Option<i64> {
    ceil(text, 0)
}

/// A quantity in thousandths, rounded up.
pub(crate) fn thousandths(text: &str) -> Option<i64> {
    ceil(text, 3)
}

/// A quantity times 10^`places`.
fn ceil(text: &str, places: i32) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let mantissa: i128 = digits.parse().ok()?;
    let (factor, exponent) = scale(suffix)?;
    let exponent = exponent + places - i32::try_from(fraction.len()).ok()?;
    let power = |exponent: i32| 10_i128.checked_pow(exponent.unsigned_abs());
    let scaled = mantissa.checked_mul(factor);
    let value = match exponent {
        0.. => scaled.zip(power(exponent)).and_then(|(value, power)| value.checked_mul(power)),
        // Divided by more than fits: next to nothing, rounded up.
        _ => scaled.map(|value| power(exponent).map_or(value.signum(), |p| ceil_div(value, p))),
    };
    Some(value.and_then(|value| i64::try_from(value).ok()).unwrap_or(i64::MAX))
}

fn ceil_div(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by > 0)
}

/// Factor and power of ten of a suffix.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|e: &i32| e.abs() < 99)?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, value) in [
            ("2", 2),
            ("1Ki", 1024),
            ("3670016Ki", 3_758_096_384),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("128M", 128_000_000),
            ("1.5Gi", 1_610_612_736),
            ("1500m", 2), // rounded up
            ("1n", 1),
            ("0", 0),
            ("9Ei", i64::MAX), // more than fits
        ] {
            assert_eq!(units(text), Some(value), "{text}");
        }
        for (text, value) in [("100m", 100), ("2", 2000), ("0.5", 500), ("1u", 1), ("1.1", 1100)] {
            assert_eq!(thousandths(text), Some(value), "{text}");
        }
        for text in ["much", "", "-1", "1x", "1.2.3", "1e", "1e1000"] {
            assert_eq!(units(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn thousandths_are_a_thousand_times_the_units(number in 0_i64..1_000_000_000) {
            prop_assert_eq!(units(&number.to_string()), Some(number));
            prop_assert_eq!(thousandths(&format!("{number}m")), Some(number));
            prop_assert_eq!(thousandths(&number.to_string()), Some(number * 1000));
            prop_assert_eq!(units(&format!("{number}Ki")), Some(number * 1024));
        }
    }
}
