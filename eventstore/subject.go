package eventstore

// Erasures of subjects, the persons whom events refer to, are recorded in streams of SubjectCategory whose id is the
// reference to the subject, by an event of type SubjectErased. A projection that keeps personal data wants the type, and
// drops what it has of the stream's id. Package eventstore/sealed records them.
const (
	SubjectCategory = "$subject"
	SubjectErased   = "subject.erased.v1"
)
