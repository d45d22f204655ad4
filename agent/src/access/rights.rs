//! Who may do what: a pure function of the caller, what a route needs, and the tenant that it is about.
//!
//! Closed where nobody has thought: a route that is not in [`ROUTES`] is for operators, as soon as there are lists.

use std::sync::Arc;

use super::lists::{Api, TenantCallers, Who};
use super::names;
use crate::workload::spec::Name;

/// What a route needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// To be named at all. What comes of it is limited to what the caller sees and owns, by whoever answers.
    Named,
    /// To see everything.
    SeeAll,
    /// To see the tenant that is named in the path.
    See,
    /// To act for the tenant that is named in the path.
    Act,
    /// To be an operator.
    Operate,
}

/// Routes by method and pattern, with what they need.
pub const ROUTES: &[(&str, &str, Need)] = &[
    ("GET", "/healthz", Need::Nothing),
    ("GET", "/readyz", Need::Nothing),
    ("GET", "/metrics", Need::SeeAll),
    // The console's files. They hold no data.
    ("GET", "/", Need::Nothing),
    ("GET", "/console/{file}", Need::Nothing),
    ("GET", "/openapi.json", Need::Nothing),
    ("GET", "/api/v1/node", Need::SeeAll),
    ("GET", "/api/v1/policies", Need::SeeAll),
    ("GET", "/api/v1/doctor", Need::SeeAll),
    ("GET", "/api/v1/watch", Need::Named),
    ("GET", "/api/v1/workloads/{tenant}/{name}", Need::See),
    ("GET", "/api/v1/workloads/{tenant}/{name}/logs", Need::See),
    ("GET", "/api/v1/workloads", Need::Named),
    ("GET", "/api/v1/tenants", Need::Named),
    ("GET", "/api/v1/events", Need::Named),
    ("GET", "/api/v1/incidents", Need::Named),
    ("GET", "/api/v1/explain/{id}", Need::Named),
    ("GET", "/api/v1/explain/{tenant}/{name}", Need::See),
    ("GET", "/api/v1/exits/{id}", Need::Named),
    ("POST", "/api/v1/workloads", Need::Named),
    ("POST", "/api/v1/apply", Need::Named),
    ("POST", "/api/v1/workloads/{tenant}/{name}/signal", Need::Act),
    ("POST", "/api/v1/workloads/{tenant}/{name}/set", Need::Act),
    ("POST", "/api/v1/workloads/{tenant}/{name}/stop", Need::Act),
    ("POST", "/api/v1/workloads/{tenant}/{name}/freeze", Need::Act),
    ("POST", "/api/v1/workloads/{tenant}/{name}/thaw", Need::Act),
    ("POST", "/api/v1/workloads/{tenant}/{name}/rm", Need::Act),
    ("POST", "/api/v1/workloads/{tenant}/{name}/exec", Need::Act),
    // The token is a secret of who started the command.
    ("POST", "/api/v1/execs/{token}/signal", Need::Named),
    // A pin is above the laws: what it holds, others cannot have.
    ("POST", "/api/v1/workloads/{tenant}/{name}/pin", Need::Operate),
    ("POST", "/api/v1/workloads/{tenant}/{name}/unpin", Need::Operate),
    ("POST", "/api/v1/release", Need::Operate),
];

/// What a route needs. `HEAD` is answered as `GET` is.
#[must_use]
pub fn need(method: &str, pattern: &str) -> Need {
    let method = if method == "HEAD" { "GET" } else { method };
    let found = ROUTES.iter().find(|(m, p, _)| (*m, *p) == (method, pattern));
    found.map_or(Need::Operate, |(_, _, need)| *need)
}

/// The lists, by number.
#[derive(Debug, Clone)]
pub struct Access {
    /// Without lists, whoever can open the socket is an operator.
    has_lists: bool,
    own: u32,
    operators: Ids,
    readers: Ids,
    tenants: Vec<(Ids, Arc<Tenant>)>,
}

#[derive(Debug, Clone, Default)]
struct Ids {
    users: Vec<u32>,
    groups: Vec<u32>,
}

/// A tenant that callers act for.
#[derive(Debug)]
pub(super) struct Tenant {
    /// Its name.
    pub(super) name: Name,
    /// What its callers may have.
    pub(super) terms: TenantCallers,
}

/// What a caller may do.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    is_operator: bool,
    sees_all: bool,
    tenants: Vec<Arc<Tenant>>,
}

impl Access {
    /// Looks names up; or a key, and what is wrong with it.
    pub fn new(api: &Api) -> Result<Self, (String, String)> {
        let ids = |key: &str, users: &[Who], groups: &[Who]| -> Result<Ids, (String, String)> {
            let all = |list: &[Who], id: fn(&Who) -> Result<u32, String>, kind: &str| {
                let found: Result<Vec<u32>, String> = list.iter().map(id).collect();
                found.map_err(|text| {
                    // The tenants are one value, with one place.
                    let is_whole = key == "api.tenants";
                    (if is_whole { key.to_owned() } else { format!("{key}.{kind}") }, text)
                })
            };
            Ok(Ids { users: all(users, names::user, "users")?, groups: all(groups, names::group, "groups")? })
        };
        let Api { operators, readers, tenants, .. } = api;
        let tenants = tenants.iter().map(|(name, terms)| {
            let tenant = Arc::new(Tenant { name: name.clone(), terms: terms.clone() });
            Ok::<_, (String, String)>((ids("api.tenants", &terms.users, &terms.groups)?, tenant))
        });
        let operators = ids("api.operators", &operators.users, &operators.groups)?;
        let readers = ids("api.readers", &readers.users, &readers.groups)?;
        let tenants: Vec<_> = tenants.collect::<Result<_, _>>()?;
        let has_lists = !(operators.is_empty() && readers.is_empty() && tenants.is_empty());
        Ok(Self { has_lists, own: nix::unistd::geteuid().as_raw(), operators, readers, tenants })
    }

    /// What somebody may do who has this user and these groups.
    #[must_use]
    pub fn rights(&self, user: u32, groups: &[u32]) -> Rights {
        let is_operator =
            !self.has_lists || user == 0 || user == self.own || self.operators.has(user, groups);
        let tenants = self.tenants.iter().filter(|(ids, _)| ids.has(user, groups));
        Rights {
            is_operator,
            sees_all: is_operator || self.readers.has(user, groups),
            tenants: tenants.map(|(_, tenant)| Arc::clone(tenant)).collect(),
        }
    }

    /// What somebody may do of whom nothing is known: over TCP. With lists, to look at the metrics, and only where nothing but
    /// those is served.
    #[must_use]
    pub fn unknown(&self) -> Rights {
        Rights { sees_all: !self.has_lists, ..Rights::default() }
    }

    /// Whether there are any.
    #[must_use]
    pub fn has_lists(&self) -> bool {
        self.has_lists
    }
}

impl Ids {
    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    fn has(&self, user: u32, groups: &[u32]) -> bool {
        self.users.contains(&user) || groups.iter().any(|group| self.groups.contains(group))
    }
}

impl Rights {
    /// Whether everything is allowed.
    #[must_use]
    pub fn is_operator(&self) -> bool {
        self.is_operator
    }

    /// Whether there is anything that it may change.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.is_operator || !self.tenants.is_empty()
    }

    /// Whether it is named at all.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.sees_all || !self.tenants.is_empty()
    }

    /// Whether it sees what is of `tenant`; without one, of the node.
    #[must_use]
    pub fn sees(&self, tenant: Option<&str>) -> bool {
        self.sees_all || tenant.is_some_and(|tenant| self.own(tenant).is_some())
    }

    /// The tenants that it sees; all when `None`.
    #[must_use]
    pub fn scope(&self) -> Option<Vec<String>> {
        (!self.sees_all).then(|| self.tenants.iter().map(|tenant| tenant.name.to_string()).collect())
    }

    /// The tenant of this name, if it acts for that.
    pub(super) fn own(&self, tenant: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|own| own.name.as_str() == tenant).map(|own| &**own)
    }

    /// Whether it has what a route needs that is about `tenant`; or why not, and what to do.
    pub fn may(&self, need: Need, tenant: Option<&str>) -> Result<(), String> {
        if self.is_operator || need == Need::Nothing {
            return Ok(());
        }
        if !self.is_named() {
            let text = "is named in none of the agent's lists: an operator can add you to [api] in its configuration";
            return Err(format!("your user {text}"));
        }
        let others = |what: &str| {
            Err(format!(
                "{what} is not for you to {}: {}",
                if need == Need::Act { "change" } else { "see" },
                self.told()
            ))
        };
        match need {
            Need::Nothing | Need::Named => Ok(()),
            Need::SeeAll if self.sees_all => Ok(()),
            Need::SeeAll => others("what is of all tenants"),
            Need::See if self.sees(tenant) => Ok(()),
            Need::Act if tenant.is_some_and(|tenant| self.own(tenant).is_some()) => Ok(()),
            Need::See | Need::Act => others(&format!("what is of {}", tenant.unwrap_or("the node"))),
            Need::Operate => Err(format!("only operators may do that: {}", self.told())),
        }
    }

    /// What it may do, in words.
    fn told(&self) -> String {
        let own: Vec<&str> = self.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        let sees = if self.sees_all { "see everything" } else { "see what is of your tenants" };
        match own[..] {
            [] => format!("you may {sees}"),
            _ => format!("you may {sees}, and act for {} (--tenant)", own.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        Access::new(&toml::from_str(text).unwrap()).unwrap()
    }

    const LISTS: &str = r"
        operators = { users = [10], groups = [100] }
        readers = { groups = [101] }
        [tenants]
        acme = { users = [20], groups = [102] }
        beta = { users = [20, 21] }
    ";

    /// Caller x need x tenant: all of it. A dot is a refusal.
    #[test]
    fn who_may_do_what() {
        use Need::{Act, Named, Nothing, Operate, See, SeeAll};
        let access = access(LISTS);
        let callers: [(&str, u32, &[u32]); 9] = [
            ("root", 0, &[]),
            ("operator", 10, &[]),
            ("by group", 11, &[7, 100]),
            ("reader", 12, &[101]),
            ("acme+beta", 20, &[]),
            ("beta", 21, &[]),
            ("acme by group", 22, &[102]),
            ("acme, reader", 23, &[101, 102]),
            ("stranger", 30, &[30]),
        ];
        let asked = [
            (Nothing, None),
            (Named, None),
            (SeeAll, None),
            (See, Some("acme")),
            (See, Some("beta")),
            (See, Some("acme2")),
            (Act, Some("acme")),
            (Act, Some("beta")),
            (Act, Some("")),
            (Act, None),
            (Operate, None),
            (Operate, Some("acme")),
        ];
        let row = |user: u32, groups: &[u32]| -> String {
            let rights = access.rights(user, groups);
            asked
                .iter()
                .map(|(need, tenant)| if rights.may(*need, *tenant).is_ok() { 'x' } else { '.' })
                .collect()
        };
        let table: Vec<String> =
            callers.iter().map(|(name, user, groups)| format!("{name:<13} {}", row(*user, groups))).collect();
        let expected = "root          xxxxxxxxxxxx\n\
                        operator      xxxxxxxxxxxx\n\
                        by group      xxxxxxxxxxxx\n\
                        reader        xxxxxx......\n\
                        acme+beta     xx.xx.xx....\n\
                        beta          xx..x..x....\n\
                        acme by group xx.x..x.....\n\
                        acme, reader  xxxxxxx.....\n\
                        stranger      x...........";
        assert_eq!(table.join("\n"), expected);
        assert!(!access.unknown().is_named());
    }

    #[test]
    fn without_lists_the_socket_decides() {
        let open = access("mode = \"0666\"");
        assert!(!open.has_lists());
        let rights = open.rights(12345, &[]);
        assert!(rights.is_operator() && rights.may(Need::Operate, None).is_ok() && rights.scope().is_none());
        assert!(
            open.unknown().may(Need::SeeAll, None).is_ok()
                && open.unknown().may(Need::Act, Some("a")).is_err()
        );
        // One name is enough for all others to be strangers; the largest number is what an unknown caller has.
        let closed = access("tenants = { acme = { users = [20] } }");
        assert!(!closed.rights(12345, &[]).is_named() && !closed.rights(u32::MAX, &[u32::MAX]).is_named());
        assert!(closed.rights(0, &[]).is_operator());
    }

    #[test]
    fn what_nobody_has_thought_about_is_for_operators() {
        assert_eq!(need("POST", "/api/v1/something-new"), Need::Operate);
        assert_eq!(need("DELETE", "/api/v1/workloads"), Need::Operate);
        assert_eq!((need("HEAD", "/metrics"), need("GET", "/healthz")), (Need::SeeAll, Need::Nothing));
    }

    /// Every route of the API is in the table, and every row of the table is a route.
    #[test]
    fn every_route_has_its_need() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
        let mut served: Vec<(String, String)> = Vec::new();
        for file in std::fs::read_dir(directory).unwrap().flatten() {
            if file.path().is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).unwrap();
            for route in text.split(".route(\"").skip(1) {
                let (pattern, rest) = route.split_once('"').unwrap();
                let method = if rest.trim_start_matches([',', ' ', '\n']).starts_with("get(") {
                    "GET"
                } else {
                    "POST"
                };
                served.push((method.to_owned(), pattern.to_owned()));
            }
        }
        let mut known: Vec<(String, String)> =
            ROUTES.iter().map(|(method, pattern, _)| ((*method).to_owned(), (*pattern).to_owned())).collect();
        served.sort();
        known.sort();
        assert_eq!(served, known);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let access = access(LISTS);
        let said = |user, need, tenant| access.rights(user, &[]).may(need, tenant).unwrap_err();
        assert!(said(30, Need::Named, None).contains("an operator can add you to [api]"));
        let own = said(21, Need::Act, Some("acme"));
        assert_eq!(
            own,
            "what is of acme is not for you to change: you may see what is of your tenants, and act for beta (--tenant)"
        );
        assert!(said(21, Need::Operate, None).starts_with("only operators may do that"));
    }
}
