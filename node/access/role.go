package access

import (
	"fmt"
	"slices"
)

// Role is what a principal may. Each has all of those before it.
type Role uint8

// The roles.
const (
	Nobody   Role = iota // what everybody may who reaches the port
	Viewer               // figures and status
	Analyst              // sessions and features of persons
	Operator             // verbs that change how things run
	Admin                // what changes whose data count, and who may what
)

var roles = [...]string{Nobody: "none", Viewer: "viewer", Analyst: "analyst", Operator: "operator", Admin: "admin"}

// String returns the name that files and the configuration have.
func (r Role) String() string {
	if int(r) < len(roles) {
		return roles[r]
	}
	return fmt.Sprintf("role(%d)", r)
}

// ParseRole reads a role that somebody may be given.
func ParseRole(text string) (Role, error) {
	if i := slices.Index(roles[:], text); i > int(Nobody) {
		return Role(i), nil
	}
	return Nobody, fmt.Errorf("%q is no role; use viewer, analyst, operator or admin", text)
}

// MarshalText implements encoding.TextMarshaler.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Role) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRole(string(text))
	return err
}

// Principal is who asks.
type Principal struct {
	// Who names them in the audit log: token:ID, cert:NAME, local, or none where nobody has to say who they are.
	// Whoever has to and has not is no principal, and nobody there.
	Who  string
	Name string // what an administrator has called them
	Role Role
	// Brands hold the role to these; nil: to none, they see all.
	Brands []string
}

// Held says whether the role is held to some brands.
func (p *Principal) Held() bool { return p.Brands != nil }

// Sees says whether the principal may see what belongs to a brand.
func (p *Principal) Sees(brand string) bool {
	return p.Brands == nil || slices.Contains(p.Brands, brand)
}

// checkBrands says whether a role may be held to brands.
func checkBrands(r Role, brands []string) error {
	switch {
	case brands == nil:
		return nil
	case len(brands) == 0 || slices.Contains(brands, ""):
		return fmt.Errorf("brands: list at least one, none of them empty; without the list the role is held to none")
	case r > Analyst:
		return fmt.Errorf("brands: %s cannot be held to brands, because verbs concern all of them", r)
	}
	return nil
}
