package config

import (
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Names whose form a service refuses. It would do so only when it is first asked, hours later if it is away.

const (
	leastBucket, mostBucket = 3, 63
	// mostPrefix is the most bytes of a prefix: a key of S3 has at most 1,024, and the tables need some of them.
	mostPrefix = 512
	// mostDatabase is the most bytes of a database's name: ClickHouse makes files of it, whose names it lengthens, and
	// a name of a file has at most 255.
	mostDatabase = 200
)

var (
	prefixName   = regexp.MustCompile(`^[A-Za-z0-9_=./-]+$`) // as store.CheckKey takes it
	bucketName   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*[a-z0-9]$`)
	regionName   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
	databaseName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
)

// bucket checks the name of a bucket as S3 does.
func (k *checker) bucket(key, value string) {
	switch n := len(value); {
	case strings.ContainsAny(value, "/:"):
		k.add(key, "%q is more than the name of a bucket: what lies before the first '/' is bucket, the rest prefix; "+
			"the host is endpoint", value)
	case n < leastBucket || n > mostBucket:
		k.add(key, "%q has %d bytes: S3 takes %d to %d", value, n, leastBucket, mostBucket)
	case !bucketName.MatchString(value):
		k.add(key, "%q is no name of a bucket: S3 takes lower-case letters, digits, '-' and '.', and a letter or "+
			"digit at both ends", value)
	case strings.Contains(value, "..") || strings.Contains(value, ".-") || strings.Contains(value, "-."):
		k.add(key, "%q is no name of a bucket: in S3 '.' stands between two letters or digits", value)
	case net.ParseIP(value) != nil:
		k.add(key, "%q is no name of a bucket: S3 takes none that looks like an IP address", value)
	}
}

// prefix checks what all keys of S3 begin with. A slash at its end says nothing.
func (k *checker) prefix(key, value string) {
	parts := strings.Split(strings.TrimSuffix(value, "/"), "/")
	bad := func(p string) bool { return p == "" || p == "." || p == ".." }
	switch {
	case value == "":
	case strings.HasPrefix(value, "/"):
		k.add(key, "%q must not begin with '/'", value)
	case len(value) > mostPrefix:
		k.add(key, "has %d bytes: use at most %d", len(value), mostPrefix)
	case slices.ContainsFunc(parts, bad):
		k.add(key, "%q has a part that is empty, '.' or '..': stores refuse keys with one", value)
	case !prefixName.MatchString(value):
		k.add(key, "%q may hold only letters, digits, '_', '=', '.', '-', and '/' between two of them", value)
	}
}

// region checks what each request's signature has of the region.
func (k *checker) region(key, value string) {
	if !regionName.MatchString(value) {
		k.add(key, "%q is no region: it has letters, digits, '-', '_' and '.', e.g. eu-central-1", value)
	}
}

// database checks the name of a database of ClickHouse.
func (k *checker) database(key, value string) {
	switch {
	case !databaseName.MatchString(value):
		k.add(key, "%q may hold only letters, digits and '_'", value)
	case len(value) > mostDatabase:
		k.add(key, "has %d bytes: use at most %d", len(value), mostDatabase)
	case value == "system" || strings.EqualFold(value, "information_schema"):
		k.add(key, "%q is ClickHouse's own, which takes no tables: give another name", value)
	}
}

// legalHost says whether a host can be dialled by its form: a name, or an IP address. "" is one that listens.
func legalHost(host string) bool {
	return !strings.ContainsAny(host, `/\@?#"<>`) && !strings.ContainsFunc(host, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	})
}

// host checks host and port of a URL, and says whether they are good.
func (k *checker) host(key string, u *url.URL) bool {
	n := len(k.problems)
	if u.Hostname() == "" || !legalHost(u.Hostname()) {
		k.add(key, "%q has no host", u.Redacted())
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 {
			k.add(key, "%q has no port from 1 to 65535", u.Redacted())
		}
	}
	return len(k.problems) == n
}
