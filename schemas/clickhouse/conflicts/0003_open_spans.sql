-- In streams that are too long to be judged a record says only from where on the event did not know a log.
ALTER TABLE {db}.conflicts COMMENT COLUMN `with` 'what it did not know, as log/from-to, or as log/from- when it is all from there on that stands before it';
ALTER TABLE {db}.conflicts COMMENT COLUMN verdict 'merged, winner, voided, needs_review, not_judged';
