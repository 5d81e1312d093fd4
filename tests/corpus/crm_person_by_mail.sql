-- accepted
-- key: mail
-- given
select p.mail, p.name from person p where p.mail is not null
