//! The two forms in which options are written down, and the code that each stands for.

/// Of what may be written or not: what was.
pub(super) const fn first<T: Copy>(written: &[T]) -> Option<T> {
    match written {
        [first, ..] => Some(*first),
        [] => None,
    }
}

/// Turns the table into the structs, the list of [`Spec`](super::Spec)s and the code that fills the one by the other.
macro_rules! options {
    (
        $top_title:literal {
            $( $( #[doc = $doc:literal] )+ $field:ident : $type:ty $( , like $like:literal )?
                $( = $default:literal $( in $low:literal ..= $high:literal )? )? ; )+
        }
        $(
            $( #[doc = $about:literal] )+
            $title:literal $section:ident : $Section:ident $( ($flags_only:ident) )? {
                $( $( #[doc = $sdoc:literal] )+ $sfield:ident : $stype:ty $( , like $slike:literal )?
                    $( = $sdefault:literal $( in $slow:literal ..= $shigh:literal )? )? ; )+
            }
        )+
    ) => {
        /// Everything the server can be told, checked and complete.
        #[derive(Debug, Clone)]
        pub struct Config {
            $( $( #[doc = $doc] )+ pub $field: $type, )+
            $( $( #[doc = $about] )+ pub $section: $Section, )+
            /// What is different for some channels; the first that matches decides.
            pub policy: Vec<Policy>,
            /// API keys besides `auth_key`.
            pub auth_keys: Vec<AuthKey>,
            /// Whose JWTs are good.
            pub jwt: Vec<Issuer>,
            /// The file that was read, if there was one.
            pub file: Option<PathBuf>,
            /// Why that may be the word of another user of this machine, if nobody has named it.
            pub distrusted: Option<String>,
            /// Every option with its value as text (secrets masked) and where it came from.
            pub settings: Vec<Setting>,
            /// What the operator should hear about: suspicious, but no reason not to start.
            pub warnings: Vec<String>,
        }

        $(
            $( #[doc = $about] )+
            #[derive(Debug, Clone)]
            pub struct $Section { $( $( #[doc = $sdoc] )+ pub $sfield: $stype, )+ }

            impl $Section {
                /// Whether the file may have this section.
                const IN_FILE: bool = stringify!($( $flags_only )?).is_empty();
            }
        )+

        /// Every option, in the order of the reference page.
        pub static OPTIONS: &[Spec] = &[
            $( Spec {
                title: $top_title,
                name: stringify!($field),
                key: stringify!($field),
                default: first(&[ $( $default )? ]),
                example: [ $( $like, )? $( $default, )? "…" ][0],
                range: first(&[ $( $( ($low, $high) )? )? ]),
                doc: concat!($( $doc, "\n" ),+),
                ..Spec::of::<$type>()
            }, )+
            $( $( Spec {
                title: $title,
                section: Some(stringify!($section)),
                name: stringify!($sfield),
                key: concat!(stringify!($section), ".", stringify!($sfield)),
                default: first(&[ $( $sdefault )? ]),
                example: [ $( $slike, )? $( $sdefault, )? "…" ][0],
                range: first(&[ $( $( ($slow, $shigh) )? )? ]),
                in_file: $Section::IN_FILE,
                doc: concat!($( $sdoc, "\n" ),+),
                ..Spec::of::<$stype>()
            }, )+ )+
        ];

        impl Config {
            /// Takes each option's value out of the layers, noting every problem on the way.
            pub(in crate::config) fn resolve(values: &mut Resolver<'_>) -> Self {
                Self {
                    $( $field: values.take(spec(stringify!($field))), )+
                    $( $section: $Section {
                        $( $sfield: values.take(spec(concat!(stringify!($section), ".", stringify!($sfield)))), )+
                    }, )+
                    policy: Vec::new(),
                    auth_keys: Vec::new(),
                    jwt: Vec::new(),
                    file: None,
                    distrusted: None,
                    settings: Vec::new(),
                    warnings: Vec::new(),
                }
            }
        }
    };
}

/// Turns the lists into their names and the [`Spec`](super::Spec)s of what their items can hold.
macro_rules! lists {
    (
        $(
            [[$list:literal]] $LIST:ident $LIST_OPTIONS:ident $list_title:literal {
                $( $( #[doc = $ldoc:literal] )+ $lname:literal : $ltype:ty, like $lexample:literal ; )+
            }
        )+
    ) => {
        $(
            #[doc = concat!("The list `[[", $list, "]]`.")]
            pub const $LIST: &str = $list;

            /// What its items can hold. They are found in the file alone, as no flag or variable could say of which it speaks.
            pub static $LIST_OPTIONS: &[Spec] = &[
                $( Spec {
                    title: $list_title,
                    section: Some($LIST),
                    name: $lname,
                    key: concat!($list, ".", $lname),
                    example: $lexample,
                    doc: concat!($( $ldoc, "\n" ),+),
                    ..Spec::of::<$ltype>()
                }, )+
            ];
        )+

        /// The sections that are lists, and what their items can hold.
        pub static LISTS: &[(&str, &[Spec])] = &[ $( ($LIST, $LIST_OPTIONS), )+ ];
    };
}
