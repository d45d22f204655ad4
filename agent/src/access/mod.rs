//! Who may do what on the control socket.
//!
//! As long as `[api]` names nobody, whoever can open the socket may do everything. As soon as it names somebody, whoever is not named
//! may do nothing: operators everything, readers see everything, and callers of a tenant see and change what is their tenant's, within
//! what a box allows. The machine's root and the agent's own user are operators always: nothing would keep them from it.
//!
//! | file | holds |
//! |---|---|
//! | `lists` | the lists, as they are configured |
//! | `names` | users and groups by name |
//! | `rights` | who may do what: a pure function of caller, route and tenant |
//! | `launch` | what a tenant's caller may have started |
//! | `pace` | how much a caller may ask for at a time |

mod launch;
mod lists;
mod names;
mod pace;
mod rights;

pub use lists::{Api, Callers, Mode, TenantCallers, Who};
pub use pace::{Account, Accounts, CONNECTIONS};
pub use rights::{Access, Need, ROUTES, Rights, need};
