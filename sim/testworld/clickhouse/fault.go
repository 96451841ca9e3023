package clickhouse

import (
	"errors"
	"time"

	"github.com/ClickHouse/ch-go/proto"
)

// Kind says what a query does.
type Kind int

// The kinds of queries.
const (
	Select Kind = iota // also SELECTs of system tables, and SELECT 1
	Insert
	DDL
)

// String is the name of the kind.
func (k Kind) String() string { return [...]string{"select", "insert", "ddl"}[k] }

// Query is what the hook learns about a query before anything of it takes effect. The rows of an INSERT have arrived
// by then.
type Query struct {
	Kind       Kind
	Database   string
	Table      string // name of the table or view, "" if there is none
	Rows       int    // of an INSERT
	Partitions int    // of an INSERT
	Body       string
	Client     string // address of the connection's other end
}

// Effect says how much of a query takes effect.
type Effect int

// The effects. A SELECT, whose effect is its result, and a DDL know only All and Nothing; others are Nothing.
const (
	All     Effect = iota
	Nothing        // nothing, ever
	First          // the first partition of the block alone
	Late           // nothing before the answer, and all of it Fault.Late afterwards
)

// Answer says how the client is answered.
type Answer int

// The answers.
const (
	Truth Answer = iota // the result; if not All took effect, the exception Fault.Code
	Fail                // the exception Fault.Code
	Close               // the connection ends without one
	Stall               // none, until the client closes the connection
)

// Fault is what goes wrong with one query; the zero value is nothing. Any effect may stand with any answer, but an
// effect other than All is never answered as a success: ClickHouse never does that.
type Fault struct {
	Before  time.Duration // wait before anything takes effect
	Effect  Effect
	Between time.Duration // wait between two partitions of a block
	Late    time.Duration // of Late, counted from the answer
	After   time.Duration // wait before the answer
	Answer  Answer
	Code    int // of the exception; 0 is UNKNOWN_STATUS_OF_INSERT
}

// FailBefore is a query that fails with the code and does nothing.
func FailBefore(code int) Fault { return Fault{Effect: Nothing, Answer: Fail, Code: code} }

// CloseBefore is a connection that ends before its query does anything.
func CloseBefore() Fault { return Fault{Effect: Nothing, Answer: Close} }

// CloseAfter is a connection that ends after its query has taken effect, and before the answer.
func CloseAfter() Fault { return Fault{Answer: Close} }

// FailAfter is a query that is answered with an exception although it has taken effect.
func FailAfter(code int) Fault { return Fault{Answer: Fail, Code: code} }

// FailMiddle is a block of which one partition is inserted before it fails.
func FailMiddle(code int) Fault { return Fault{Effect: First, Answer: Fail, Code: code} }

// CloseLate is a connection that ends at once, and a query that takes effect after d: its client has given up long ago.
func CloseLate(d time.Duration) Fault { return Fault{Effect: Late, Late: d, Answer: Close} }

// StallBefore is a query that does nothing and is never answered.
func StallBefore() Fault { return Fault{Effect: Nothing, Answer: Stall} }

// StallAfter is a query that takes effect and is never answered.
func StallAfter() Fault { return Fault{Answer: Stall} }

// Slow is a query that takes d before it takes effect, and d again until it is answered.
func Slow(d time.Duration) Fault { return Fault{Before: d, After: d} }

var errFault = errors.New("clickhouse model: the connection ends by a fault")

func (f *Fault) exception() error {
	code := proto.Error(f.Code)
	if code == 0 {
		code = proto.ErrUnknownStatusOfInsert
	}
	return exception(code, "injected: %s", code)
}

// run executes a query under its fault. parts is how many steps apply has.
func (s *Server) run(c *Session, f Fault, parts int, apply func(part int) error, answer func() error) error {
	if f.Effect > Nothing && parts == 0 {
		f.Effect = Nothing // neither of them is an INSERT
	}
	if err := s.wait(f.Before); err != nil {
		return err
	}
	all := func() error {
		for i := range max(parts, 1) {
			if i > 0 {
				if err := s.wait(f.Between); err != nil {
					return err
				}
			}
			if err := apply(i); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	switch f.Effect {
	case All:
		err = all()
	case First:
		err = apply(0)
	}
	if f.Effect != All && f.Answer == Truth {
		f.Answer = Fail
	}
	if werr := s.wait(f.After); werr != nil {
		return werr
	}
	if f.Effect == Late {
		s.later(f.Late, all)
	}
	switch f.Answer {
	case Fail:
		return f.exception()
	case Close:
		return errFault
	case Stall:
		return c.untilClosed()
	}
	if err != nil {
		return err
	}
	return answer()
}

// wait lets time pass, unless the server is closed.
func (s *Server) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.closed:
		return errFault
	}
}

// lateInsert is one that has not taken effect yet.
type lateInsert struct {
	apply func() error
	timer *time.Timer
}

func (s *Server) later(d time.Duration, apply func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &lateInsert{apply: apply}
	s.late[l] = true
	l.timer = time.AfterFunc(d, func() { s.settle(l) })
}

// settle lets a late insert take effect, once.
func (s *Server) settle(l *lateInsert) {
	s.mu.Lock()
	pending := s.late[l]
	delete(s.late, l)
	s.mu.Unlock()
	if pending {
		_ = l.apply() // its table may be gone, and nobody hears of it
	}
}

// Late returns how many late inserts have not taken effect yet.
func (s *Server) Late() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.late)
}

// Settle lets every late insert take effect now.
func (s *Server) Settle() {
	s.mu.Lock()
	var all []*lateInsert
	for l := range s.late {
		all = append(all, l)
	}
	s.mu.Unlock()
	for _, l := range all {
		l.timer.Stop()
		s.settle(l)
	}
}
