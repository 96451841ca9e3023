package pki

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The files of the authority in a folder; those of NAME are NAME.pem and NAME-key.pem.
const (
	caFile     = "ca.pem"         // the bundle: during a rotation the new and the old certificate
	caKeyFile  = "ca-key.pem"     // of the certificate that signs
	oldKeyFile = "ca-key.old.pem" // during a rotation the former key
	suffix     = ".pem"
	keySuffix  = "-key.pem"
)

// ErrExists is returned for a file that is there and was not to be overwritten.
var ErrExists = errors.New("it is there already")

// Folder makes certificates in a folder. Files have mode 0600, folders that it makes 0700; each file is written whole
// to a temporary name, synced and renamed.
type Folder struct {
	Dir string
	Now func() time.Time // default time.Now
}

// Leaf says what a certificate of a node or client has.
type Leaf struct {
	Name    string
	Cluster string   // "": that of the CA
	Hosts   []string // of a node: DNS names and IP addresses
	Days    int
	Out     string // the folder to write to; "": that of the CA
	Force   bool   // replace a certificate of the same name
}

func (f *Folder) now() time.Time {
	if f.Now == nil {
		return time.Now()
	}
	return f.Now()
}

func (f *Folder) path(name string) string { return filepath.Join(f.Dir, name) }

// Init makes an authority: ca.pem and ca-key.pem. It returns the names of the files. With force a former authority is
// lost; what it has signed is worth nothing then.
func (f *Folder) Init(cluster string, days int, force bool) ([]string, error) {
	ca, err := NewCA(cluster, f.now(), days)
	if err != nil {
		return nil, err
	}
	cert, key, err := ca.PEM()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(f.path(oldKeyFile)); err == nil {
		return nil, fmt.Errorf("%s: %w: a rotation is under way; end it (deckle certs rotate --finish)",
			f.path(oldKeyFile), ErrExists)
	}
	return f.write(f.Dir, force, file{caKeyFile, key, isKey}, file{caFile, cert, isCA})
}

// Node makes NAME.pem and NAME-key.pem of a node, and returns the names of the files.
func (f *Folder) Node(l Leaf) ([]string, error) {
	return f.leaf(l, NodeURI, func(ca *CA, cluster string) (cert, key []byte, err error) {
		return ca.Node(cluster, l.Name, l.Hosts, f.now(), l.Days)
	})
}

// Client makes NAME.pem and NAME-key.pem of a client of the HTTP side, and returns the names of the files.
func (f *Folder) Client(l Leaf) ([]string, error) {
	return f.leaf(l, ClientURI, func(ca *CA, cluster string) (cert, key []byte, err error) {
		return ca.Client(cluster, l.Name, f.now(), l.Days)
	})
}

func (f *Folder) leaf(l Leaf, uri func(cluster, name string) string,
	sign func(ca *CA, cluster string) (cert, key []byte, err error),
) ([]string, error) {
	ca, err := f.authority()
	if err != nil {
		return nil, err
	}
	cluster := cmp.Or(l.Cluster, ca.Cluster())
	switch has := ca.Cluster(); {
	case cluster == "":
		return nil, fmt.Errorf("%s names no cluster: say which one", f.path(caFile))
	case has != "" && has != cluster:
		return nil, fmt.Errorf("%s is the CA of cluster %q, not of %q", f.path(caFile), has, cluster)
	}
	cert, key, err := sign(ca, cluster)
	if err != nil {
		return nil, err
	}
	ours := func(text []byte) bool {
		certs, err := ParseCertificates(text)
		return err == nil && !certs[0].IsCA && slices.Equal(rawURIs(certs[0]), []string{uri(cluster, l.Name)})
	}
	return f.write(cmp.Or(l.Out, f.Dir), l.Force, file{l.Name + keySuffix, key, isKey},
		file{l.Name + suffix, cert, ours})
}

// authority reads the CA of the folder.
func (f *Folder) authority() (*CA, error) {
	bundle, err := os.ReadFile(f.path(caFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (deckle certs init makes a CA)", err)
	}
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(f.path(caKeyFile))
	if err != nil {
		return nil, err
	}
	ca, err := ReadCA(bundle, key)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", f.path(caFile), f.path(caKeyFile), err)
	}
	return ca, nil
}

// Rotate makes a second authority: ca.pem has both, ca-key.pem is the key of the new one, ca-key.old.pem that of the
// former. It returns the names of the files. The order of the three writes keeps invariant 3: until the last of them
// the former authority signs, and Finish after a crash before it takes back what was begun.
func (f *Folder) Rotate(days int) ([]string, error) {
	ca, err := f.authority()
	if err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(f.path(caFile))
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(bundle)
	if err != nil {
		return nil, err
	}
	if len(certs) > 1 {
		return nil, fmt.Errorf("%s has %d certificates: a rotation is under way; end it first (deckle certs rotate "+
			"--finish)", f.path(caFile), len(certs))
	}
	if ca.Cluster() == "" {
		return nil, fmt.Errorf("%s was not made by deckle certs init", f.path(caFile))
	}
	next, err := NewCA(ca.Cluster(), f.now(), days)
	if err != nil {
		return nil, err
	}
	_, old, err := ca.PEM()
	if err != nil {
		return nil, err
	}
	cert, key, err := next.PEM()
	if err != nil {
		return nil, err
	}
	same := func(text []byte) bool { return bytes.Equal(text, old) } // of a rotation that ended here
	if _, err := f.write(f.Dir, true, file{oldKeyFile, old, same}); err != nil {
		return nil, err
	}
	both := slices.Concat(cert, encodeCertificate(ca.Cert.Raw))
	if _, err := f.write(f.Dir, true, file{caFile, both, isCA}); err != nil {
		return nil, err
	}
	if _, err := f.write(f.Dir, true, file{caKeyFile, key, isKey}); err != nil {
		return nil, err
	}
	return []string{f.path(caFile), f.path(caKeyFile), f.path(oldKeyFile)}, nil
}

// Finish ends a rotation: ca.pem has the authority of ca-key.pem alone, and the former key is removed, since nothing
// trusts it any more. It is refused while a certificate in the folder is signed by another authority of the bundle.
func (f *Folder) Finish() ([]string, error) {
	ca, err := f.authority()
	if err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(f.path(caFile))
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(bundle)
	if err != nil {
		return nil, err
	}
	_, noOld := os.Lstat(f.path(oldKeyFile))
	if len(certs) == 1 && noOld != nil {
		return nil, fmt.Errorf("%s has one certificate: there is no rotation to finish", f.path(caFile))
	}
	var holders []string
	names, err := filepath.Glob(f.path("*" + suffix))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		leaf, err := ParseCertificates(text)
		if err != nil || leaf[0].IsCA {
			continue
		}
		if leaf[0].CheckSignatureFrom(ca.Cert) != nil && slices.ContainsFunc(certs, func(c *x509.Certificate) bool {
			return leaf[0].CheckSignatureFrom(c) == nil
		}) {
			holders = append(holders, name)
		}
	}
	if len(holders) > 0 {
		return nil, fmt.Errorf("%s: still signed by the CA that is to go; make them anew (deckle certs node NAME "+
			"--force), or delete what nobody uses any more", strings.Join(holders, ", "))
	}
	if _, err := f.write(f.Dir, true, file{caFile, encodeCertificate(ca.Cert.Raw), isCA}); err != nil {
		return nil, err
	}
	if err := os.Remove(f.path(oldKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return []string{f.path(caFile)}, syncFolder(f.Dir)
}

// file is what is to be written; kind says whether it may take the place of a file with a given content.
type file struct {
	name string
	text []byte
	kind func(content []byte) bool
}

func isCA(text []byte) bool {
	certs, err := ParseCertificates(text)
	return err == nil && certs[0].IsCA
}

func isKey(text []byte) bool {
	_, err := parseKey(text)
	return err == nil
}

// write writes all files or, if one of them must not be replaced, none.
func (f *Folder) write(dir string, force bool, files ...file) (written []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, w := range files {
		path := filepath.Join(dir, w.name)
		switch content, err := os.ReadFile(path); {
		case errors.Is(err, fs.ErrNotExist):
			if _, err := os.Lstat(path); err == nil {
				return nil, fmt.Errorf("%s: %w, as a link to nothing", path, ErrExists)
			}
		case err != nil:
			return nil, err
		case !force:
			return nil, fmt.Errorf("%s: %w; --force replaces it", path, ErrExists)
		case !w.kind(content):
			return nil, fmt.Errorf("%s: %w, and is something else than what would take its place: move it away", path,
				ErrExists)
		}
	}
	for _, w := range files {
		path := filepath.Join(dir, w.name)
		if err := writeFile(path, w.text, force); err != nil {
			return nil, err
		}
		written = append(written, path)
	}
	slices.Sort(written)
	return written, syncFolder(dir)
}

// writeFile writes a file whole, mode 0600. Without replace, a file that has come meanwhile stays.
func writeFile(path string, text []byte, replace bool) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if replace {
		return os.Rename(tmp.Name(), path)
	}
	// A link fails where the name is taken; a rename would not.
	switch err := os.Link(tmp.Name(), path); {
	case err == nil:
		return os.Remove(tmp.Name())
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%s: %w; --force replaces it", path, ErrExists)
	}
	return os.Rename(tmp.Name(), path) // a file system without links
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
