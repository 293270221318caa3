//! The three forms in which metrics are written down, and what the pages read of each.

use channelapi_core::counters::Counter;

/// A group of counters with a reason each.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) label: &'static str,
    /// The values of the label, and what they mean.
    pub(super) values: &'static [(&'static str, &'static str)],
    pub(super) counters: &'static [Counter],
}

/// One number that grows.
pub(super) struct Total {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) counter: &'static Counter,
    /// Where it is in the code.
    #[cfg(test)]
    pub(super) place: &'static str,
}

/// Declares enums whose variants are counters.
macro_rules! families {
    ($(
        $( #[doc = $help:literal] )+
        $metric:literal by $label:literal in $name:ident {
            $( $( #[doc = $about:literal] )+ $variant:ident = $value:literal, )+
        }
    )+) => {
        $(
            $( #[doc = $help] )+
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            #[allow(dead_code, reason = "some reasons are counted only by what is not built on every system")]
            pub(crate) enum $name { $( $( #[doc = $about] )+ $variant, )+ }

            impl $name {
                const VALUES: &[(&'static str, &'static str)] = &[ $( ($value, concat!($( $about ),+)), )+ ];

                fn counters() -> &'static [Counter] {
                    static COUNTERS: [Counter; $name::VALUES.len()] = [const { Counter::new() }; $name::VALUES.len()];
                    &COUNTERS
                }

                /// Counts one.
                pub(crate) fn count(self) {
                    Self::counters()[self as usize].count();
                }

                /// The word that stands for it in metrics and logs.
                #[allow(dead_code, reason = "not every family is named elsewhere")]
                pub(crate) fn as_str(self) -> &'static str {
                    Self::VALUES[self as usize].0
                }
            }
        )+

        /// All groups, in the order of the page.
        pub(super) fn families() -> Vec<Family> {
            vec![ $( Family {
                name: concat!("channelapi_", $metric, "_total"),
                help: concat!($( $help ),+),
                label: $label,
                values: $name::VALUES,
                counters: $name::counters(),
            }, )+ ]
        }
    };
}

/// Declares single counters, which are statics here or fields of the core's.
macro_rules! totals {
    ($( $( #[doc = $help:literal] )+ $metric:literal $counter:expr; )+) => {
        /// All single counters, in the order of the page.
        pub(super) fn totals() -> Vec<Total> {
            vec![ $( Total {
                name: concat!("channelapi_", $metric, "_total"),
                help: concat!($( $help ),+),
                counter: $counter,
                #[cfg(test)]
                place: stringify!($counter),
            }, )+ ]
        }
    };
}

/// Declares what is read when somebody asks.
macro_rules! gauges {
    ($( $( #[doc = $help:literal] )+ $metric:literal $kind:literal |$now:pat_param| $read:expr; )+) => {
        /// All of them, in the order of the page.
        pub(super) fn gauges() -> Vec<Gauge> {
            vec![ $( Gauge {
                name: $metric,
                help: concat!($( $help ),+),
                kind: $kind,
                read: |$now| $read,
            }, )+ ]
        }
    };
}
