package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// MaxDays is the longest time for which a certificate is made: a hundred years.
const MaxDays = 36500

// before is how far back a certificate's validity begins: clocks differ.
const before = 5 * time.Minute

// CA is an authority that can sign.
type CA struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes an authority for a cluster, valid for days from now on.
func NewCA(cluster string, now time.Time, days int) (*CA, error) {
	if err := CheckCluster(cluster); err != nil {
		return nil, err
	}
	tmpl, err := template(now, days)
	if err != nil {
		return nil, err
	}
	tmpl.Subject = pkix.Name{Organization: []string{cluster},
		CommonName: fmt.Sprintf("Deckle CA %08x", tmpl.SerialNumber.Bytes()[:4])}
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.MaxPathLenZero = true, true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &CA{Cert: cert, key: key}, err
}

// ReadCA returns the authority of a bundle (PEM, one or more certificates) to which a key (PEM) belongs.
func ReadCA(bundle, key []byte) (*CA, error) {
	certs, err := ParseCertificates(bundle)
	if err != nil {
		return nil, fmt.Errorf("the CA's certificates: %w", err)
	}
	signer, err := parseKey(key)
	if err != nil {
		return nil, fmt.Errorf("the CA's key: %w", err)
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	for _, c := range certs {
		if ok && public.Equal(c.PublicKey) {
			if !c.IsCA {
				return nil, errors.New("the certificate of the CA's key is not that of a CA")
			}
			return &CA{Cert: c, key: signer}, nil
		}
	}
	return nil, errors.New("the CA's key belongs to none of its certificates")
}

// Cluster returns the cluster that the authority was made for, "" if it was made by others.
func (c *CA) Cluster() string {
	if o := c.Cert.Subject.Organization; len(o) == 1 && CheckCluster(o[0]) == nil {
		return o[0]
	}
	return ""
}

// PEM returns the certificate and the key (PKCS #8).
func (c *CA) PEM() (cert, key []byte, err error) {
	key, err = encodeKey(c.key)
	return encodeCertificate(c.Cert.Raw), key, err
}

// Node makes the certificate and the key (PEM) of a node of a cluster, with the DNS names and IP addresses in hosts.
func (c *CA) Node(cluster, name string, hosts []string, now time.Time, days int) (cert, key []byte, err error) {
	return c.leaf(cluster, name, NodeURI(cluster, name), hosts, now, days,
		x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

// Client makes the certificate and the key (PEM) of a client of the HTTP side.
func (c *CA) Client(cluster, name string, now time.Time, days int) (cert, key []byte, err error) {
	return c.leaf(cluster, name, ClientURI(cluster, name), nil, now, days, x509.ExtKeyUsageClientAuth)
}

func (c *CA) leaf(cluster, name, uri string, hosts []string, now time.Time, days int, usage ...x509.ExtKeyUsage,
) (cert, key []byte, err error) {
	if err := errors.Join(CheckCluster(cluster), checkName(name)); err != nil {
		return nil, nil, err
	}
	tmpl, err := template(now, days)
	if err != nil {
		return nil, nil, err
	}
	if tmpl.NotAfter.After(c.Cert.NotAfter) {
		return nil, nil, fmt.Errorf("the CA is valid until %s only: give fewer days, or make a new CA (deckle certs "+
			"rotate)", c.Cert.NotAfter.UTC().Format(time.DateOnly))
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, nil, err
	}
	tmpl.Subject = pkix.Name{Organization: []string{cluster}, CommonName: name}
	tmpl.URIs = []*url.URL{u}
	tmpl.KeyUsage, tmpl.ExtKeyUsage = x509.KeyUsageDigitalSignature, usage
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
			continue
		}
		if err := CheckCertificateName(h); err != nil {
			return nil, nil, fmt.Errorf("host %w", err)
		}
		tmpl.DNSNames = append(tmpl.DNSNames, h)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.Cert, &private.PublicKey, c.key)
	if err != nil {
		return nil, nil, err
	}
	// What is not read back as it was meant would be refused by the other nodes only.
	made, err := x509.ParseCertificate(der)
	if err == nil && (len(rawURIs(made)) != 1 || rawURIs(made)[0] != uri) {
		err = fmt.Errorf("the URI reads %q", rawURIs(made))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the certificate of %s: %w", uri, err)
	}
	key, err = encodeKey(private)
	return encodeCertificate(der), key, err
}

// template returns what all certificates have: a serial number and a validity.
func template(now time.Time, days int) (*x509.Certificate, error) {
	if days < 1 || days > MaxDays {
		return nil, fmt.Errorf("%d days: give 1 to %d", days, MaxDays)
	}
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] |= 0x40 // the same length each time, and positive in fewer than 20 bytes
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), NotBefore: now.Add(-before),
		NotAfter: now.AddDate(0, 0, days)}, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseCertificates returns the certificates of a PEM text, in its order; other blocks are passed over. It is an error
// if there is none, or one that cannot be read.
func ParseCertificates(text []byte) (certs []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate")
	}
	return certs, nil
}

// parseKey returns the first private key of a PEM text: PKCS #8, or one of the older forms that openssl writes.
func parseKey(text []byte) (crypto.Signer, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("no PEM private key")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("a key of type %T cannot sign", key)
		}
		return signer, nil
	}
}
