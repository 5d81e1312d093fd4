-- Why the edited configuration was not taken up, so that everybody is told who asks how
-- things are.
alter table bridge.daemon add column refused text not null default '';
