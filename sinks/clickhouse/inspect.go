package clickhouse

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// Server is what a server says of itself and of the user. What it does not tell is zero.
type Server struct {
	Version string
	Clock   time.Duration // how far its clock is ahead of this machine's, to the half of a round trip
	Exists  bool          // the database is there
	Grants  []string      // as SHOW GRANTS has them
}

// Inspect connects, asks who the server is, and changes nothing. An error says that it cannot be used as it is
// configured; Refused tells which of them stay.
func (s *Sink) Inspect(ctx context.Context) (*Server, error) {
	if err := s.ping(ctx); err != nil {
		return nil, err
	}
	v := &Server{}
	before := s.opts.Now()
	err := s.rows(ctx, "SELECT version(), toString(toUnixTimestamp64Milli(now64(3)))", 2, func(row []string) error {
		var at int64
		if _, err := fmt.Sscan(row[1], &at); err != nil {
			return err
		}
		now := s.opts.Now()
		v.Version, v.Clock = row[0], time.UnixMilli(at).Sub(before.Add(now.Sub(before)/2))
		return nil
	})
	if err != nil {
		return v, err
	}
	err = s.rows(ctx, "SELECT toString(count()) FROM system.databases WHERE name = "+quoteText(s.opts.Database), 1,
		func(row []string) error {
			v.Exists = row[0] != "0"
			return nil
		})
	if err != nil {
		return v, err
	}
	err = s.rows(ctx, "SHOW GRANTS", 1, func(row []string) error {
		v.Grants = append(v.Grants, row[0])
		return nil
	})
	return v, err
}

// CreateDatabase makes the database if it is not there.
func (s *Sink) CreateDatabase(ctx context.Context) error {
	if err := s.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+quoteIdent(s.opts.Database)); err != nil {
		return fmt.Errorf("clickhouse: create database %s: %w", s.opts.Database, err)
	}
	return nil
}

// Refused says whether an error of a server stays until somebody acts, and what to do.
func Refused(err error) (todo string, refused bool) {
	switch {
	case ch.IsErr(err, proto.ErrAuthenticationFailed, proto.ErrUnknownUser, proto.ErrWrongPassword,
		proto.ErrRequiredPassword):
		return "correct clickhouse.user and clickhouse.password", true
	case ch.IsErr(err, proto.ErrAccessDenied, proto.ErrDatabaseAccessDenied):
		return "give the user the rights of deploy/rights/clickhouse.sql", true
	case ch.IsErr(err, proto.ErrIPAddressNotAllowed):
		return "let the user connect from this machine", true
	}
	return "", false
}

// needed are the rights on the database of deploy/rights/clickhouse.sql, each with those that include it.
var needed = [][]string{
	{"SELECT"}, {"INSERT"}, {"CREATE TABLE", "CREATE"}, {"CREATE VIEW", "CREATE"}, {"DROP VIEW", "DROP"},
	{"ALTER ADD COLUMN", "ALTER COLUMN", "ALTER TABLE", "ALTER"},
	{"ALTER COMMENT COLUMN", "ALTER COLUMN", "ALTER TABLE", "ALTER"},
}

var grant = regexp.MustCompile(`(?i)^GRANT (.+) ON (\S+) TO `)

// Lacks returns which rights on the database no grant gives. It is nil where that is not known: the user has a role, or
// grants on single tables.
func (v *Server) Lacks(database string) (rights []string) {
	has := map[string]bool{}
	for _, line := range v.Grants {
		m := grant.FindStringSubmatch(line)
		switch {
		case m == nil:
			return nil
		case strings.HasPrefix(strings.ToUpper(m[1]), "ALL"), strings.Contains(strings.ToUpper(m[1]), "CURRENT GRANTS"):
			return nil
		}
		switch on := strings.ReplaceAll(m[2], "`", ""); {
		case on == "*.*" || on == database+".*":
			for right := range strings.SplitSeq(m[1], ", ") {
				has[strings.ToUpper(strings.TrimSpace(right))] = true
			}
		case strings.HasPrefix(on, database+"."):
			return nil
		}
	}
	for _, ways := range needed {
		if len(v.Grants) > 0 && !slices.ContainsFunc(ways, func(w string) bool { return has[w] }) {
			rights = append(rights, ways[0])
		}
	}
	return rights
}
