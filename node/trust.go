package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"deckle/node/condition"
	"deckle/node/config"
	"deckle/node/kafka"
	"deckle/trust"
)

// material returns what the files of a TLS block have, nil for no block.
func material(files *trust.Files, key string, t *config.TLS) (*trust.Material, error) {
	if t == nil {
		return nil, nil
	}
	b := trust.Block{Roots: t.CA, Cert: t.Cert, Key: t.Key, ServerName: t.ServerName, Unverified: t.InsecureSkipVerify}
	if key == clusterTLS {
		b.MinVersion = tls.VersionTLS13
	}
	return files.TLS(key, b)
}

// clusterTLS is the key of the block of the connections between the nodes.
const clusterTLS = "cluster.tls"

// client returns what gives the configuration of each connection to a service, nil for no TLS.
func client(files *trust.Files, key string, t *config.TLS) (func() *tls.Config, error) {
	m, err := material(files, key, t)
	if m == nil || err != nil {
		return nil, err
	}
	return m.Client, nil
}

// password returns what gives the present value of a secret, for whoever asks for each connection. One from the
// environment stays what it was at the start.
func password(files *trust.Files, key string, s config.Secret) (func() string, error) {
	if s.File == "" {
		return s.Value, nil
	}
	t, err := files.Text(key, s.File)
	if err != nil {
		return nil, err
	}
	return t.Value, nil
}

// prove adds to s what authentication takes.
func prove(s *kafka.Secure, files *trust.Files, sasl *config.SASL) (err error) {
	o := sasl.OAuth
	switch {
	case sasl.Kerberos != nil:
		if s.Kerberos, err = kafka.NewKerberos(sasl.Kerberos); err != nil {
			return err
		}
		const at = "kafka.sasl.kerberos"
		if err := files.Bytes(at+".config", sasl.Kerberos.Config, s.Kerberos.TakeConfig); err != nil {
			return err
		}
		return files.Bytes(at+".keytab", sasl.Kerberos.Keytab, s.Kerberos.TakeKeytab)
	case o == nil:
		s.Password, err = password(files, "kafka.sasl.password", sasl.Password)
		return err
	case o.TokenFile != "":
		s.Password, err = password(files, tokenKey, config.Secret{File: o.TokenFile})
		return err
	}
	if o.CA != "" {
		if s.TokenTLS, err = client(files, "kafka.sasl.oauth", &config.TLS{CA: o.CA}); err != nil {
			return err
		}
	}
	s.Password, err = password(files, "kafka.sasl.oauth.client_secret", o.ClientSecret)
	return err
}

// tokenKey is the key of the file with Kafka's token, which is a secret, too.
const tokenKey = "kafka.sasl.oauth.token_file"

// openFiles reads the files of every TLS block and every secret, so that all are watched from the start on. An error of
// a sink's is not one of the node's: whoever opens the sink meets it, and the others work.
func openFiles(cfg *config.Config, deps *Deps) *trust.Files {
	files := trust.NewFiles(deps.ReadFile, deps.Now, deps.Logger)
	for _, b := range cfg.TLSBlocks() {
		_, _ = material(files, b.Key, b.TLS)
	}
	for _, s := range cfg.Secrets() {
		_, _ = password(files, s.Key, s.Secret)
	}
	return files
}

// fileWatch looks at the files that the configuration names, and keeps the conditions about them.
type fileWatch struct {
	cfg   *config.Config
	deps  *Deps
	files *trust.Files // certificates, keys, CA bundles and secrets
	list  *condition.Registry
	// reloads looks at the configuration; nil: it does not change.
	reloads *reloader

	mu   sync.Mutex
	next chan struct{} // closed when a file has changed; nil: nobody has asked since
}

// renewed returns what is closed when a file comes into use with another content, for shard.Env.
func (w *fileWatch) renewed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == nil {
		w.next = make(chan struct{})
	}
	return w.next
}

// tellRenewed is told that a file has come into use with another content.
func (w *fileWatch) tellRenewed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next != nil {
		close(w.next)
		w.next = nil
	}
}

// run looks at the files until ctx ends: from time to time, and when the process is told to.
func (w *fileWatch) run(ctx context.Context) {
	var reading sync.WaitGroup
	reading.Go(func() { w.files.Run(ctx) })
	defer reading.Wait()
	modes := time.NewTicker(trust.LookEvery)
	defer modes.Stop()
	w.lookModes()
	for {
		select {
		case <-modes.C:
			w.lookModes()
			w.lookConfiguration()
		case s := <-w.deps.Reread:
			w.deps.Logger.Info("looking at the files", "signal", s.String())
			w.files.Look()
			w.lookConfiguration()
		case <-ctx.Done():
			return
		}
	}
}

func (w *fileWatch) lookConfiguration() {
	if w.reloads != nil {
		w.reloads.look()
	}
}

// look brings the conditions about files up to date.
func (w *fileWatch) look() {
	now := w.deps.Now()
	states := w.files.State()
	for i := range states {
		s := &states[i]
		severity, text := expiring(s, now)
		if text != "" {
			w.list.Set(condition.CertificateExpiring, s.Key, severity, text, "")
		} else {
			w.list.Clear(condition.CertificateExpiring, s.Key)
		}
		text = ""
		if s.Unusable {
			text = fmt.Sprintf("what it has now cannot be used; what it had at %s is in use: %v",
				s.Since.UTC().Format(time.RFC3339), s.Err)
		}
		w.list.Keep(condition.FileUnusable, s.Key, text)
	}
}

// expiring says when a certificate expires, if that is soon.
func expiring(s *trust.FileState, now time.Time) (condition.Severity, string) {
	left := s.NotAfter.Sub(now)
	if s.NotAfter.IsZero() || left >= condition.ExpiringDays*24*time.Hour {
		return 0, ""
	}
	severity := condition.Degraded
	if left < condition.ExpiringNowDays*24*time.Hour {
		severity = condition.Failing
	}
	return severity, fmt.Sprintf("%s %s", s.Paths[0], until(s.NotAfter, now))
}

// until says when something expires or has expired.
func until(end, now time.Time) string {
	days := int(end.Sub(now) / (24 * time.Hour))
	switch date := end.UTC().Format(time.RFC3339); {
	case end.Before(now):
		return "has expired at " + date + ": whoever verifies it refuses it"
	case days == 0:
		return "expires at " + date + ", within a day"
	case days == 1:
		return "expires at " + date + ", in a day"
	default:
		return fmt.Sprintf("expires at %s, in %d days", date, days)
	}
}

// betweenNodes is what the condition insecure concerns if it is about the nodes' connections.
const betweenNodes = "between nodes"

// tellInsecure says what the configuration leaves open.
func (w *fileWatch) tellInsecure() {
	if c := &w.cfg.Cluster; c.Insecure && len(c.Nodes) > 1 {
		how := "connections between the nodes have no TLS"
		if c.TLS != nil {
			how = "connections between the nodes are taken without TLS, too"
		}
		if w.cfg.Encryption != nil {
			how += ", and the state crosses them readable, whatever encryption.keys seals on disk"
		}
		w.list.Set(condition.Insecure, betweenNodes, 0, "cluster.insecure: "+how+": whoever reaches their port could "+
			"read and write everything", "")
	}
	for _, b := range w.cfg.TLSBlocks() {
		if b.TLS.InsecureSkipVerify {
			w.list.Set(condition.Insecure, b.Key, 0, b.Key+".insecure_skip_verify: certificates are not verified, so "+
				"anyone between could read and change everything", "")
		}
	}
	for _, c := range w.cfg.PasswordsInClear() {
		w.list.Set(condition.PasswordInClear, c.Key, 0, c.Text, "")
	}
}

// CheckFiles opens every file that the configuration names, besides its secrets, which Load has read. The error says
// what cannot be used and what the other nodes would refuse, certificates when each expires, notices what expires soon
// or can be read by others, in one line each. It changes nothing.
func CheckFiles(cfg *config.Config, deps Deps) (certificates, notices []string, err error) {
	deps.complete()
	names := Names(&cfg.Cluster, cfg.Node)
	files := trust.NewFiles(deps.ReadFile, deps.Now, deps.Logger)
	var errs []error
	var certificate *trust.Material // of HTTP
	// The files of these are in no TLS block and no secret.
	if s := cfg.Kafka.SASL; s != nil && (s.OAuth != nil || s.Kerberos != nil) {
		if err := prove(&kafka.Secure{}, files, s); err != nil {
			errs = append(errs, err)
		}
	}
	for _, b := range cfg.TLSBlocks() {
		m, err := material(files, b.Key, b.TLS)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if b.TLS.InsecureSkipVerify {
			notices = append(notices, b.Key+".insecure_skip_verify: certificates are not verified")
		}
		if b.TLS == cfg.HTTP.TLS {
			certificate = m
		}
		if b.TLS == cfg.Cluster.TLS {
			if err := ownCertificate(m, names, len(cfg.Cluster.Nodes)); err != nil {
				errs = append(errs, err)
			}
		}
	}
	more, err := checkHTTP(cfg, &deps, files, certificate)
	notices, errs = append(notices, more...), append(errs, err)
	if _, err := openKeys(files, cfg); err != nil {
		errs = append(errs, err)
	}
	now := deps.Now()
	for _, s := range files.State() {
		if s.NotAfter.IsZero() {
			continue
		}
		line := fmt.Sprintf("%s: %s %s", s.Key, s.Paths[0], until(s.NotAfter, now))
		certificates = append(certificates, line)
		if _, text := expiring(&s, now); text != "" {
			notices = append(notices, line)
		}
	}
	for _, c := range cfg.PasswordsInClear() {
		notices = append(notices, c.Key+": "+c.Text)
	}
	for _, s := range cfg.SecretFiles() {
		if info, err := deps.stat(s.Path); err == nil && info.Mode()&openToOthers != 0 {
			notices = append(notices, fmt.Sprintf("%s: every user of the machine can read or change %s (mode %04o): "+
				"chmod o-rwx %s", s.Key, s.Path, info.Mode().Perm(), s.Path))
		}
	}
	return certificates, notices, errors.Join(errs...)
}
