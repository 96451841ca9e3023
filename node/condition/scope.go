package condition

import (
	"slices"
	"sync"
)

// Scope is a registry for work that ends, such as a leadership: when it has ended, what it found is over, too. Its
// methods are safe for concurrent use.
type Scope struct {
	r *Registry

	mu    sync.Mutex
	ended bool
	keys  map[key]bool
}

// Scope returns a new scope of the registry.
func (r *Registry) Scope() *Scope { return &Scope{r: r, keys: map[key]bool{}} }

// Set is Registry.Set. After End it does nothing: work that ends late has nothing to say any more.
func (s *Scope) Set(id ID, subject string, severity Severity, text, todo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.keys[key{id, subject}] = true
	s.r.Set(id, subject, severity, text, todo)
}

// Clear is Registry.Clear, for a condition that this scope has set.
func (s *Scope) Clear(id ID, subject string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{id, subject}
	if s.keys[k] {
		delete(s.keys, k)
		s.r.end(k, "")
	}
}

// Keep sets a condition if text is not empty, and clears it otherwise.
func (s *Scope) Keep(id ID, subject, text string) {
	if text == "" {
		s.Clear(id, subject)
	} else {
		s.Set(id, subject, 0, text, "")
	}
}

// Get returns a condition that this scope has set, and whether it holds: at once, even if it must last for a while
// before it begins.
func (s *Scope) Get(id ID, subject string) (Condition, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{id, subject}
	if !s.keys[k] {
		return Condition{}, false
	}
	return s.r.get(k)
}

// Snapshot returns what this scope has set and holds now, in the order of Compare: at once, even what must last for a
// while before it begins.
func (s *Scope) Snapshot() []Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Condition, 0, len(s.keys))
	for k := range s.keys {
		if c, ok := s.r.get(k); ok {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, Compare)
	return out
}

// Retain clears what this scope has set, except where keep is true; because says why.
func (s *Scope) Retain(keep func(id ID, subject string) bool, because string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.keys {
		if !keep(k.id, k.subject) {
			delete(s.keys, k)
			s.r.end(k, because)
		}
	}
}

// End clears everything that the scope has set; because says why. What is set later is not taken.
func (s *Scope) End(because string) {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.Retain(func(ID, string) bool { return false }, because)
}
